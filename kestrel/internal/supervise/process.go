// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"os"
	"time"

	"github.com/volantvm/volant/kestrel/internal/attach"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/health"
	"github.com/volantvm/volant/kestrel/internal/reaper"
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
	joined       *attach.Run   // the loop's own: this run's, where people are joined to it
	place        *os.File      // of a running init: a descriptor of it, by which others enter its namespaces

	// What follows is guarded by the supervisor's lock.
	state         contract.ProcessStatus
	reason        string
	lastFailure   string
	child         *reaper.Process
	exit          *reaper.Status
	message       string // what it left of its end
	startedAt     time.Time
	restarts      int
	launches      int
	failuresInRow int
	ready         bool          // what dependants wait for
	wasReady      bool          // it was ready at least once
	up            bool          // for a second, healthy or ended well: the VM counts it as running
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
				return s.prepareCheck(sp, command, arguments)
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
	p.update(func() { p.move(state, reason) })
}

// giveUp is the last word of a loop whose process did not run.
func (p *process) giveUp(state contract.ProcessStatus, reason string) {
	p.update(func() {
		p.move(state, reason)
		p.exit, p.over = nil, true
	})
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
	p.move(contract.ProcessWaiting, "")
	p.failuresInRow = 0
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
	if p.spec.attached {
		p.supervisor.station.Reopen()
		defer p.supervisor.station.Close()
	}
	for {
		if !p.awaitDependencies(ctx) || !p.awaitVsock(ctx) {
			if ctx.Err() != nil {
				p.giveUp(contract.ProcessStopped, "")
			}
			return
		}
		begun := time.Now()
		child, outputs, err := p.launch(begun)
		if err != nil {
			p.supervisor.options.Logs.Say("%v", err)
			p.giveUp(contract.ProcessFailed, err.Error())
			return
		}
		status := p.attend(ctx, child, begun)
		if p.joined != nil {
			p.joined.End(status)
			p.joined = nil
		}
		if !p.decideNext(ctx, status, outputs) {
			return
		}
	}
}

// describe is the state as the protocol shows it. Called with the supervisor's lock held.
func (p *process) describe() contract.ProcessState {
	state := contract.ProcessState{Name: p.spec.name, State: p.state, Restarts: p.restarts, Reason: p.reason, Message: p.message}
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
