// SPDX-License-Identifier: Apache-2.0

// Package reaper owns every wait in the agent.
//
// PID 1 inherits all orphans of the guest and must wait for them, yet a wait for "any child" takes whatever status
// comes first. So there is one place that waits, and everything that starts a program starts it here: the fork and
// the note of its pid happen under the lock that the waiting needs too, which leaves no moment in which a status
// could be taken by somebody who does not know whose it is. Code elsewhere must not call Wait, Wait4 or
// exec.Cmd.Run; exec.Cmd is served by StartCommand and Process.WaitCommand.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// usualSlack is Linux's own default in nanoseconds.
const usualSlack = 50_000

// Reaper waits for all children of this process. There is one per program; see Start.
type Reaper struct {
	mutex    sync.Mutex
	known    map[int]*Process
	orphans  uint64
	begin    sync.Once
	signals  chan os.Signal
	stop     chan struct{}
	finished chan struct{}
}

// Start makes a reaper, which begins its work with the first child. It makes this process the one that inherits orphans, which PID 1 is anyway.
func Start() (*Reaper, error) {
	if os.Getpid() != 1 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("cannot become the reaper of orphans: %w", err)
		}
	}
	return &Reaper{
		known:    make(map[int]*Process),
		signals:  make(chan os.Signal, 1), // one pending signal is enough: every signal drains all zombies
		stop:     make(chan struct{}),
		finished: make(chan struct{}),
	}, nil
}

// Close ends the reaping; used by tests and by programs that go on without children.
func (r *Reaper) Close() {
	r.begin.Do(func() { close(r.finished) })
	signal.Stop(r.signals)
	close(r.stop)
	<-r.finished
}

// Orphans is the number of processes reaped so far that nobody here had started.
func (r *Reaper) Orphans() uint64 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.orphans
}

func (r *Reaper) loop() {
	defer close(r.finished)
	signal.Notify(r.signals, unix.SIGCHLD)
	r.drain() // whoever died before the signal was asked for
	for {
		select {
		case <-r.signals:
			r.drain()
		case <-r.stop:
			return
		}
	}
}

// drain takes the status of every zombie there is. The lock is taken anew for each, so that a burst of thousands
// does not keep a start waiting.
func (r *Reaper) drain() {
	for r.reapOne() {
	}
}

func (r *Reaper) reapOne() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return false
		}
		process, ok := r.known[pid]
		if !ok {
			r.orphans++
			return true
		}
		delete(r.known, pid)
		process.finish(status)
		return true
	}
}

// Command is a program to start. Files become descriptors 0, 1, 2 and so on; nil stands for /dev/null.
type Command struct {
	Path       string // an absolute path; nothing is looked up
	Arguments  []string
	Env        []string
	Directory  string
	Files      []*os.File
	Attributes *syscall.SysProcAttr
	// Inside is a descriptor (pidfd_open(2)) of a process whose PID, mount and cgroup namespaces the program is to share;
	// nil: this one's.
	Inside *os.File
	// Release are closed by Start in any case: ends of pipes that only the program is to hold.
	Release []*os.File
}

// Start starts a program and notes its pid before its exit status can be taken.
func (r *Reaper) Start(command Command) (*Process, error) {
	defer func() {
		for _, file := range command.Release {
			_ = file.Close()
		}
	}()
	files := make([]uintptr, max(3, len(command.Files)))
	var null *os.File
	for index := range files {
		if index < len(command.Files) && command.Files[index] != nil {
			files[index] = command.Files[index].Fd()
			continue
		}
		if null == nil {
			var err error
			if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
				return nil, fmt.Errorf("cannot start %s: %w", command.Path, err)
			}
			defer func() { _ = null.Close() }()
		}
		files[index] = null.Fd()
	}
	attributes := &syscall.ProcAttr{Dir: command.Directory, Env: command.Env, Files: files, Sys: command.Attributes}
	arguments := command.Arguments
	if len(arguments) == 0 {
		arguments = []string{command.Path}
	}

	r.mutex.Lock()
	defer r.mutex.Unlock()
	defer leaveSlack()()
	pid, err := forkInside(command.Inside, func() (int, error) {
		return syscall.ForkExec(command.Path, arguments, attributes)
	})
	if err != nil {
		return nil, &os.PathError{Op: "exec", Path: command.Path, Err: err}
	}
	return r.note(pid), nil
}

// StartCommand starts a prepared exec.Cmd under the same guarantee; finish with Process.WaitCommand.
func (r *Reaper) StartCommand(command *exec.Cmd) (*Process, error) {
	return r.StartFunc(func() (int, error) {
		if err := command.Start(); err != nil {
			return 0, err
		}
		return command.Process.Pid, nil
	})
}

// StartFunc is StartCommand for code that starts a program in a way of its own (a PTY library). The function must
// only start it, not wait for anything.
func (r *Reaper) StartFunc(start func() (pid int, err error)) (*Process, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	defer leaveSlack()()
	pid, err := start()
	if err != nil {
		return nil, err
	}
	return r.note(pid), nil
}

// leaveSlack gives this thread the timer slack that Linux gives every program, until the returned function is called:
// PID 1 sets another for threads of its own, and programs would inherit it.
func leaveSlack() (done func()) {
	if os.Getpid() != 1 {
		return func() {}
	}
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, usualSlack, 0, 0, 0)
	return runtime.UnlockOSThread
}

// Adopt follows a child that this process inherited, such as the background half of a program that daemonized. It
// returns nil when there is no such child (any more).
func (r *Reaper) Adopt(pid int) *Process {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if _, taken := r.known[pid]; taken {
		return nil
	}
	// WNOWAIT leaves a zombie where it is; what matters here is only that pid is a child of ours: ECHILD says no.
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return nil
	}
	group, err := unix.Getpgid(pid)
	if err != nil || group == unix.Getpgrp() {
		group = pid // ours must never be signalled; a number that leads no group reaches nobody
	}
	process := r.note(pid)
	process.group = group
	return process
}

// Knows says whether pid was started here and is not reaped yet.
func (r *Reaper) Knows(pid int) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_, ok := r.known[pid]
	return ok
}

// note is called with the lock held.
func (r *Reaper) note(pid int) *Process {
	process := &Process{reaper: r, pid: pid, group: pid, done: make(chan struct{})}
	r.known[pid] = process
	r.begin.Do(func() { go r.loop() })
	return process
}
