// SPDX-License-Identifier: Apache-2.0

package power

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Request asks for the end of the guest. A zero Deadline leaves every process its own stop_timeout.
type Request struct {
	Action   Action
	Deadline time.Duration
	Origin   string
}

// Requests takes requests from the control stream, from signals and from the supervisor; the first one counts.
type Requests chan Request

// NewRequests also listens to the signals by which people and the kernel ask PID 1: SIGTERM and SIGPWR to power off,
// SIGINT (Ctrl-Alt-Del) to reboot.
func NewRequests() Requests {
	requests := make(Requests, 1)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // off: the kernel sends SIGINT to PID 1 instead of rebooting at once
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	go func() {
		defer Guard()
		for received := range signals {
			action := PowerOff
			if received == unix.SIGINT {
				action = Reboot
			}
			requests.Ask(Request{Action: action, Origin: received.String()})
		}
	}()
	return requests
}

// Ask hands a request in and tells whether it is the one that counts.
func (r Requests) Ask(request Request) bool {
	select {
	case r <- request:
		return true
	default:
		return false
	}
}
