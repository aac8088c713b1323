// SPDX-License-Identifier: Apache-2.0

// Package power ends the guest: in order when asked, with a reason when it cannot boot, and never by hanging.
package power

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Action is what becomes of the machine.
type Action string

// Actions, spelled as in the control protocol.
const (
	PowerOff Action = "poweroff"
	Reboot   Action = "reboot"
)

// end asks the kernel; it does not return. Only PID 1's own tests replace it.
var end = func(action Action) {
	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	if action == Reboot {
		command = unix.LINUX_REBOOT_CMD_RESTART
	}
	err := unix.Reboot(command)
	// A machine without a power switch: halting is the last thing that is not a busy loop.
	fmt.Fprintf(os.Stderr, "kestrel: cannot %s: %v\n", action, err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_HALT)
	for {
		time.Sleep(time.Hour)
	}
}

var failing sync.Once

// CannotBoot tells the console in one line why this guest cannot boot, and powers off.
func CannotBoot(reason error) {
	failing.Do(func() {
		line := strings.ReplaceAll(strings.TrimSpace(reason.Error()), "\n", "; ")
		tellConsole("kestrel: cannot boot: " + line + "\n")
		watchdog := startWatchdog(PowerOff)
		unix.Sync()
		watchdog.Stop()
		end(PowerOff)
	})
	select {}
}

// BootAgain has the host boot this machine once more. In the state in which it is, nothing that waits for a time goes on:
// nor does this.
func BootAgain(reason string) {
	_, _ = os.Stderr.WriteString("kestrel: booting again: " + reason + "\n")
	end(Reboot)
}

// Guard ends the machine when the goroutine that deferred it panics: as PID 1 a panic that nobody sees would be a hang
// or a kernel panic with the reason lost.
func Guard() {
	if cause := recover(); cause != nil {
		tellConsole(fmt.Sprintf("kestrel: internal error: %v\n%s", cause, debug.Stack()))
		CannotBoot(fmt.Errorf("internal error: %v", cause))
	}
}

// diskPatience is how long flushing and unmounting may take: a busy host's disk is slow, a dead one never answers.
const diskPatience = time.Minute

// startWatchdog ends the machine although its disks do not answer, unless it is stopped before.
func startWatchdog(action Action) *time.Timer {
	return time.AfterFunc(diskPatience, func() {
		tellConsole("kestrel: the disks do not answer: ending without them\n")
		end(action)
	})
}

// consolePatience is how long the console may take for a few lines; nobody may be reading at its other end.
const consolePatience = 2 * time.Second

// tellConsole writes to the console and waits until the characters have left the machine, but not for ever.
func tellConsole(text string) {
	told := make(chan struct{})
	go func() {
		defer close(told)
		writeConsole(text)
	}()
	select {
	case <-told:
	case <-time.After(consolePatience):
	}
}

func writeConsole(text string) {
	console, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		console = os.Stderr
	}
	_, _ = console.WriteString(text)
	_ = unix.IoctlSetInt(int(console.Fd()), unix.TCSBRK, 1) // tcdrain(3)
}
