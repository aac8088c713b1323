// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/health"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	// upFor is how long a process without a check must be up to count as ready.
	upFor = time.Second
	// steadyFor is how long it must be up for the back-off to begin anew.
	steadyFor = 10 * time.Second
	// longestBackoff ends the doubling.
	longestBackoff = 30 * time.Second
	// drainLimit is how long the last output of an ended process is waited for before its end is logged.
	drainLimit = 100 * time.Millisecond
	// groupPause is how often the rest of a group is looked for while it stops.
	groupPause = 10 * time.Millisecond
)

// process is one supervised process.
type process struct {
	supervisor   *Supervisor
	spec         spec
	monitors     []*health.Monitor
	dependencies []*process
	dependants   []*process
	ended        chan struct{} // closed when Stop is done with this process
	cgroup       cgroup        // the loop's own

	// What follows is guarded by the supervisor's lock.
	state         contract.ProcessStatus
	reason        string
	lastFailure   string
	child         *reaper.Process
	exit          *reaper.Status
	startedAt     time.Time
	restarts      int
	launches      int
	failuresInRow int
	ready         bool          // what dependants wait for
	wasReady      bool          // it was ready at least once
	settled       bool          // up for a second, healthy or ended well: the VM counts it as running
	changed       chan struct{} // closed and replaced at every change
	cancel        context.CancelFunc
	idle          chan struct{} // closed when the loop has ended; nil before the first
	over          bool          // the loop has said its last word and is about to end
}

func newProcess(s *Supervisor, sp spec) *process {
	p := &process{
		supervisor: s,
		spec:       sp,
		state:      contract.ProcessWaiting,
		ended:      make(chan struct{}),
		changed:    make(chan struct{}),
	}
	for _, check := range sp.checks {
		options := health.Options{
			Check:   check,
			Reaper:  s.options.Reaper,
			Changed: p.checkHealth,
			Prepare: func(command string, arguments []string) (reaper.Command, error) {
				return s.prepareCommand(sp, command, arguments)
			},
		}
		if check.RestartOnUnhealthy {
			options.Unhealthy = func() {
				s.options.Logs.Say("the check %s of process %s is unhealthy: restarting it", check.Name, sp.name)
				p.restartUnhealthy()
			}
		}
		p.monitors = append(p.monitors, health.New(options))
	}
	return p
}

// update is Supervisor.update for a change of this process; it wakes the dependants too.
func (p *process) update(change func()) {
	p.supervisor.update(func() {
		change()
		close(p.changed)
		p.changed = make(chan struct{})
	})
}

func (p *process) set(state contract.ProcessStatus, reason string) {
	p.update(func() { p.state, p.reason = state, reason })
}

// conclude is the last word of a loop whose process did not run.
func (p *process) conclude(state contract.ProcessStatus, reason string) {
	p.update(func() { p.state, p.reason, p.exit, p.over = state, reason, nil, true })
}

// begin starts the loop; false: it runs already.
func (p *process) begin() bool {
	s := p.supervisor
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for p.idle != nil && !isClosed(p.idle) {
		if !p.over {
			return false
		}
		idle := p.idle
		s.mutex.Unlock()
		<-idle
		s.mutex.Lock()
	}
	if s.stopping {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.idle, p.over = cancel, make(chan struct{}), false
	idle := p.idle
	p.state, p.reason, p.failuresInRow = contract.ProcessWaiting, "", 0
	s.loops.Go(func() {
		defer close(idle)
		defer cancel()
		p.loop(ctx)
	})
	return true
}

func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// end stops the process and waits until it has ended; false: it was not running.
func (p *process) end() bool {
	s := p.supervisor
	s.mutex.Lock()
	cancel, idle := p.cancel, p.idle
	s.mutex.Unlock()
	if idle == nil {
		p.set(contract.ProcessStopped, "")
		return false
	}
	if isClosed(idle) {
		return false
	}
	cancel()
	<-idle
	return true
}

// restartUnhealthy restarts a running process; one that is waiting or backing off is left to that.
func (p *process) restartUnhealthy() {
	p.supervisor.mutex.Lock()
	running := p.child != nil && !p.supervisor.stopping
	p.supervisor.mutex.Unlock()
	if running && p.end() {
		p.begin()
	}
}

// loop is one life of the process, from the first start to the last exit.
func (p *process) loop(ctx context.Context) {
	p.cgroup = openCgroup(p.spec.name)
	defer p.cgroup.close()
	for {
		if !p.awaitDependencies(ctx) || !p.awaitVsock(ctx) {
			if ctx.Err() != nil {
				p.conclude(contract.ProcessStopped, "")
			}
			return
		}
		begun := time.Now()
		child, outputs, err := p.launch(begun)
		if err != nil {
			p.supervisor.options.Logs.Say("%v", err)
			p.conclude(contract.ProcessFailed, err.Error())
			return
		}
		status := p.attend(ctx, child, begun)
		if !p.again(ctx, status, outputs) {
			return
		}
	}
}

// awaitDependencies returns when all dependencies are ready; false: not wanted any more. A dependency that failed is
// shown as this process's own failure, but it may yet be started by hand and get ready, so the wait goes on.
func (p *process) awaitDependencies(ctx context.Context) bool {
	mutex := &p.supervisor.mutex
	for _, dependency := range p.dependencies {
		for {
			mutex.Lock()
			ready, changed := dependency.ready, dependency.changed
			state, reason := contract.ProcessWaiting, "waits for "+dependency.spec.name+dependency.ailment()
			if dependency.state == contract.ProcessFailed {
				state = contract.ProcessFailed
				reason = fmt.Sprintf("depends on %s, which failed: %s", dependency.spec.name, dependency.reason)
			}
			known := p.state == state && p.reason == reason
			mutex.Unlock()
			if ready {
				break
			}
			if !known {
				if state == contract.ProcessFailed {
					p.supervisor.options.Logs.Say("process %s is not started: it %s", p.spec.name, reason)
				}
				p.update(func() { p.state, p.reason, p.exit = state, reason, nil })
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return false
			}
		}
	}
	return ctx.Err() == nil
}

// ailment says why a process that others wait for is not well; empty while nothing is known. Called with the lock held.
func (p *process) ailment() string {
	for _, monitor := range p.monitors {
		if state, reason := monitor.State(); state == contract.HealthUnhealthy {
			return ", which is unhealthy: " + reason
		}
	}
	if p.state == contract.ProcessBackoff {
		return ", which " + p.reason
	}
	return ""
}

func (p *process) awaitVsock(ctx context.Context) bool {
	wait := p.supervisor.options.WaitForVsock
	if p.spec.vsock == nil || wait == nil {
		return true
	}
	p.set(contract.ProcessStarting, fmt.Sprintf("waits for vsock %d:%d", p.spec.vsock.cid, p.spec.vsock.port))
	if err := wait(ctx, p.spec.vsock.cid, p.spec.vsock.port); err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("cannot start %s: vsock %d:%d: %w", p.spec.name, p.spec.vsock.cid, p.spec.vsock.port, err)
			p.supervisor.options.Logs.Say("%v", err)
			p.conclude(contract.ProcessFailed, err.Error())
		}
		return false
	}
	return true
}

// launch starts the program. Begun is a moment before that: on a busy processor the child may run for a while
// before the agent does again.
func (p *process) launch(begun time.Time) (*reaper.Process, []*logs.Pipe, error) {
	s := p.supervisor
	command, err := s.prepareCommand(p.spec, p.spec.command[0], p.spec.command[1:])
	if err != nil {
		return nil, nil, err
	}
	if info, err := os.Stat(command.Directory); err != nil || !info.IsDir() {
		return nil, nil, fmt.Errorf("cannot start %s: its working directory %s does not exist", p.spec.name, command.Directory)
	}
	stdout, err := s.options.Logs.Pipe(p.spec.name, logs.Stdout)
	if err != nil {
		return nil, nil, err
	}
	stderr, err := s.options.Logs.Pipe(p.spec.name, logs.Stderr)
	if err != nil {
		_ = stdout.Write.Close()
		return nil, nil, err
	}
	if credential := command.Attributes.Credential; credential != nil && credential.Uid != 0 {
		// /dev/stdout is opened anew by path, with the rights of the pipe's owner.
		_ = stdout.Write.Chown(int(credential.Uid), int(credential.Gid))
		_ = stderr.Write.Chown(int(credential.Uid), int(credential.Gid))
	}
	command.Files = []*os.File{nil, stdout.Write, stderr.Write}
	command.Release = []*os.File{stdout.Write, stderr.Write}
	command.Attributes.Setsid = true // a session and a group of its own, without a terminal
	if p.cgroup.directory != nil {
		command.Attributes.UseCgroupFD, command.Attributes.CgroupFD = true, int(p.cgroup.directory.Fd())
	}
	s.firstExec.Do(func() {
		if s.options.OnFirstExec != nil {
			s.options.OnFirstExec()
		}
	})
	child, err := s.options.Reaper.Start(command)
	if err != nil {
		return nil, nil, program.Explain(command.Path, err)
	}
	s.options.Logs.Say("process %s started as pid %d", p.spec.name, child.PID())
	p.update(func() {
		p.state, p.reason = contract.ProcessRunning, ""
		p.child, p.exit = child, nil
		p.startedAt = begun
		p.ready, p.settled = false, false
		if p.launches++; p.launches > 1 {
			p.restarts++
		}
	})
	return child, []*logs.Pipe{stdout, stderr}, nil
}

// attend watches a running child until it has ended, by itself or because the context has.
func (p *process) attend(ctx context.Context, child *reaper.Process, begun time.Time) reaper.Status {
	for _, monitor := range p.monitors {
		monitor.Begin()
	}
	up := time.NewTimer(upFor)
	defer up.Stop()
	for {
		select {
		case <-up.C:
			p.update(func() {
				p.settled = true
				if len(p.monitors) == 0 && !p.spec.runOnce {
					p.ready, p.wasReady = true, true
				}
			})
		case <-child.Done():
			if next := p.followBackground(child, begun); next != nil {
				child = next
				continue
			}
			return p.finish(ctx, child)
		case <-ctx.Done():
			p.set(contract.ProcessRunning, "stopping")
			p.terminate(child)
			return p.finish(ctx, child)
		}
	}
}

// checkHealth is told by the monitors that something changed.
func (p *process) checkHealth() {
	healthy := !slices.ContainsFunc(p.monitors, func(monitor *health.Monitor) bool {
		state, _ := monitor.State()
		return state != contract.HealthHealthy
	})
	p.update(func() {
		if healthy && p.child != nil && !p.spec.runOnce {
			p.ready, p.wasReady, p.settled = true, true, true
		}
	})
}

// finish ends what belonged to a child that is gone.
func (p *process) finish(ctx context.Context, child *reaper.Process) reaper.Status {
	status := child.Wait()
	if ctx.Err() != nil || !status.Success() {
		_ = child.SignalRest(unix.SIGKILL) // what a crash leaves behind may hold the port that the next start needs
		p.cgroup.kill()
	}
	for _, monitor := range p.monitors {
		if ctx.Err() != nil || status.Success() {
			monitor.End(contract.HealthUnknown, "")
		} else {
			monitor.End(contract.HealthUnhealthy, fmt.Sprintf("process %s %s", p.spec.name, status))
		}
	}
	return status
}

// again decides what follows an exit; true: start once more. The last words of the process are kept before anybody
// hears of its end, and the state changes at once: nobody may see a running process without a pid.
func (p *process) again(ctx context.Context, status reaper.Status, outputs []*logs.Pipe) bool {
	ended := time.Now()
	for _, output := range outputs {
		output.WaitDrained(drainLimit)
	}
	say := p.supervisor.options.Logs.Say
	text := status.String()
	if status.Signal == unix.SIGKILL && p.supervisor.memory.ranOut() {
		text += " (the guest ran out of memory)"
	}
	stopped := ctx.Err() != nil
	restart := !stopped && p.spec.wantsRestart(status)
	var pause time.Duration
	p.update(func() {
		p.child, p.exit, p.over = nil, &status, !restart
		p.ready, p.settled = status.Success() && !stopped, status.Success() && !stopped
		p.wasReady = p.wasReady || p.ready // one that exited 0 has done what its dependants waited for
		if time.Since(p.startedAt) >= steadyFor {
			p.failuresInRow = 0
		}
		switch {
		case stopped:
			p.state, p.reason = contract.ProcessStopped, ""
		case restart:
			pause = nextBackoff(p.spec.backoff, p.failuresInRow)
			p.failuresInRow++
			p.state, p.reason = contract.ProcessBackoff, fmt.Sprintf("%s; starts again in %s", text, pause)
			p.lastFailure = text
		case status.Success():
			p.state, p.reason = contract.ProcessExited, ""
		default:
			p.state, p.reason = contract.ProcessFailed, text
		}
	})
	switch {
	case stopped:
		say("process %s stopped: %s", p.spec.name, text)
		return false
	case !restart:
		say("process %s %s", p.spec.name, text)
		return false
	}
	say("process %s %s; it starts again in %s", p.spec.name, text, pause)
	timer := time.NewTimer(pause - time.Since(ended)) // a slow disk does not make the pause longer
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		p.update(func() { p.state, p.reason, p.over = contract.ProcessStopped, "", true })
		return false
	}
}

// wantsRestart is the restart policy.
func (sp spec) wantsRestart(status reaper.Status) bool {
	switch {
	case sp.runOnce && status.Success():
		return false
	case sp.restart == config.RestartAlways:
		return true
	default:
		return sp.restart == config.RestartOnFailure && !status.Success()
	}
}

// nextBackoff doubles with every failure in a row. A configured pause above the usual longest stays as it is.
func nextBackoff(first time.Duration, failuresInRow int) time.Duration {
	longest := max(first, longestBackoff)
	pause := first
	for range failuresInRow {
		if pause *= 2; pause >= longest {
			return longest
		}
	}
	return pause
}

// terminate asks the whole group to end and kills it when its time is up.
func (p *process) terminate(child *reaper.Process) {
	_ = child.SignalGroup(p.spec.stopSignal)
	_ = child.SignalGroup(unix.SIGCONT) // a stopped process hears nothing else
	limit := time.NewTimer(p.spec.stopTimeout)
	defer limit.Stop()
	ended := child.Done()
	look := time.NewTicker(time.Hour)
	defer look.Stop()
	for {
		select {
		case <-ended: // the leader has gone; its group may still be at it
			ended = nil
			if child.SignalRest(0) != nil {
				return
			}
			look.Reset(groupPause)
		case <-look.C:
			if child.SignalRest(0) != nil {
				return
			}
		case <-limit.C:
			p.kill(child, fmt.Sprintf("did not end within %s", p.spec.stopTimeout))
			return
		case <-p.supervisor.killed:
			p.kill(child, "did not end before the deadline of the stop")
			return
		}
	}
}

func (p *process) kill(child *reaper.Process, why string) {
	p.supervisor.options.Logs.Say("process %s %s: killing it", p.spec.name, why)
	_ = child.SignalGroup(unix.SIGKILL)
	child.Wait()
	_ = child.SignalRest(unix.SIGKILL)
}

// describe is the state as the protocol shows it. Called with the supervisor's lock held.
func (p *process) describe() contract.ProcessState {
	state := contract.ProcessState{Name: p.spec.name, State: p.state, Restarts: p.restarts, Reason: p.reason}
	if p.child != nil {
		pid := p.child.PID()
		state.PID = &pid
	}
	if p.exit != nil {
		if p.exit.Signal != 0 {
			name := reaper.SignalName(p.exit.Signal)
			state.Signal = &name
		} else {
			code := p.exit.Code
			state.ExitCode = &code
		}
	}
	if !p.startedAt.IsZero() {
		text := p.startedAt.UTC().Format(time.RFC3339Nano)
		state.StartedAt = &text
	}
	return state
}
