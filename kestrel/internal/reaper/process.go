// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"errors"
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Status is how a process ended: by an exit code, or by a signal when Signal is not 0.
type Status struct {
	Code   int
	Signal unix.Signal
}

// Success is exit code 0.
func (s Status) Success() bool { return s.Code == 0 && s.Signal == 0 }

// ExitCode is the code as a shell would report it: 128 + N for signal N.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

func (s Status) String() string {
	if s.Signal != 0 {
		return fmt.Sprintf("killed by %s", SignalName(s.Signal))
	}
	return fmt.Sprintf("exited with code %d", s.Code)
}

// SignalName is the name of a signal, also of a real-time one.
func SignalName(number unix.Signal) string {
	if name := unix.SignalName(number); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(number))
}

// Process is one that was started (or adopted) here. All methods may be called from many goroutines.
type Process struct {
	reaper *Reaper
	pid    int
	group  int
	status Status // valid once done is closed
	done   chan struct{}
}

// finish is called once, by the reaper.
func (p *Process) finish(status unix.WaitStatus) {
	if status.Signaled() {
		p.status = Status{Signal: status.Signal()}
	} else {
		p.status = Status{Code: status.ExitStatus()}
	}
	close(p.done)
}

// PID is the process id. It stays reserved until the process has been reaped.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the process ended, waiting for that if need be.
func (p *Process) Wait() Status {
	<-p.done
	return p.status
}

// WaitCommand waits like Wait and lets an exec.Cmd finish its own business: copying goroutines, descriptors.
// The Cmd finds its child already reaped and says so, which is no error here.
func (p *Process) WaitCommand(command *exec.Cmd) (Status, error) {
	status := p.Wait()
	err := command.Wait()
	var exit *exec.ExitError
	if errors.Is(err, unix.ECHILD) || errors.As(err, &exit) {
		err = nil
	}
	return status, err
}

// Signal sends a signal unless the process has been reaped: its number could be another's by then.
func (p *Process) Signal(number unix.Signal) error {
	return p.signal(p.pid, number)
}

// SignalGroup sends a signal to the process group that the process leads (or, adopted, is in).
func (p *Process) SignalGroup(number unix.Signal) error {
	return p.signal(-p.group, number)
}

// SignalRest sends a signal to what is left of the group after its leader has been reaped; ESRCH: nobody is left.
// A group's number is not given away while it has members, so a process with exactly this pid means that the group
// is gone and the number in use again.
func (p *Process) SignalRest(number unix.Signal) error {
	p.reaper.mutex.Lock()
	defer p.reaper.mutex.Unlock()
	if p.reaper.known[p.pid] != p {
		if err := unix.Kill(p.group, 0); !errors.Is(err, unix.ESRCH) {
			return unix.ESRCH
		}
	}
	return unix.Kill(-p.group, number)
}

func (p *Process) signal(target int, number unix.Signal) error {
	p.reaper.mutex.Lock()
	defer p.reaper.mutex.Unlock()
	if p.reaper.known[p.pid] != p {
		return unix.ESRCH
	}
	return unix.Kill(target, number)
}
