// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	usualSlack = "50000"   // nanoseconds; what Linux gives every thread
	calmSlack  = "4000000" // one tick of a distribution's kernel
	ownThreads = "/proc/self/task"
)

// calmRuntime lets the Go runtime's watching thread, the first that a program makes, wake up with the kernel's tick
// instead of every 20 µs. On one emulated processor that took a fifth of the boot. Threads that the watcher makes
// inherit the slack, programs do not: the reaper sees to that. It is the first thing that the agent does with files,
// and does it by system calls alone, since every wake-up until then costs.
func calmRuntime() {
	watcher := 0
	for _, thread := range listThreads() {
		if thread != os.Getpid() && (watcher == 0 || thread < watcher) {
			watcher = thread
		}
	}
	setSlack(watcher, calmSlack)
}

// wakeRuntime ends that: from here on goroutines take turns.
func wakeRuntime() {
	for _, thread := range listThreads() {
		setSlack(thread, usualSlack)
	}
}

// listThreads gives the first few hundred threads of this process.
func listThreads() (threads []int) {
	folder, err := unix.Open(ownThreads, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(folder) }()
	buffer := make([]byte, 8192)
	count, err := unix.ReadDirent(folder, buffer)
	if err != nil {
		return nil
	}
	_, _, names := unix.ParseDirent(buffer[:count], -1, nil)
	for _, name := range names {
		if thread, err := strconv.Atoi(name); err == nil {
			threads = append(threads, thread)
		}
	}
	return threads
}

// setSlack is a matter of speed only, so it does not matter where the kernel says no.
func setSlack(thread int, nanoseconds string) {
	file, err := unix.Open("/proc/"+strconv.Itoa(thread)+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_, _ = unix.Write(file, []byte(nanoseconds))
	_ = unix.Close(file)
}
