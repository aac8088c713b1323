// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"path/filepath"
	"strconv"
)

const (
	usualSlack = "50000"   // nanoseconds; what Linux gives every thread
	calmSlack  = "4000000" // one tick of a distribution's kernel
	ownThreads = "/proc/self/task"
)

// calmRuntime lets the Go runtime's watching thread, the first that a program makes, wake up with the kernel's tick
// instead of every 20 µs. On one emulated processor that took a fifth of the boot. Threads that the watcher makes
// inherit the slack, programs do not: the reaper sees to that.
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

func listThreads() (threads []int) {
	entries, _ := os.ReadDir(ownThreads)
	for _, entry := range entries {
		if thread, err := strconv.Atoi(entry.Name()); err == nil {
			threads = append(threads, thread)
		}
	}
	return threads
}

// setSlack is a matter of speed only, so it does not matter where the kernel says no.
func setSlack(thread int, nanoseconds string) {
	_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(thread), "timerslack_ns"), []byte(nanoseconds), 0)
}
