// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/nested"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	// drainLimit is how long the last output of an ended process is waited for before its end is logged.
	drainLimit = 100 * time.Millisecond
	// groupPause is how often the rest of a group is looked for while it stops.
	groupPause = 10 * time.Millisecond
)

// finish ends what belonged to a child that is gone.
func (p *process) finish(ctx context.Context, child *reaper.Process) reaper.Status {
	status := child.Wait()
	p.closePlace()
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

// decideNext decides what follows an exit; true: start once more. The last words of the process are kept before anybody
// hears of its end, and the state changes at once: nobody may see a running process without a pid.
func (p *process) decideNext(ctx context.Context, status reaper.Status, outputs []*logs.Pipe) bool {
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
	if reboot, asked := nested.ReadEnd(status); asked && p.isNested() {
		text, restart = map[bool]string{false: "powered off", true: "asked for a reboot"}[reboot], false
		if end := p.supervisor.options.OnInitEnd; end != nil && !stopped {
			go end(reboot)
		}
	}
	message := ""
	if p.spec.messagePath != "" {
		message = readMessage(p.spec.messagePath)
	}
	var pause time.Duration
	p.update(func() {
		p.child, p.exit, p.over = nil, &status, !restart
		p.message = message
		p.ready, p.up = status.Success() && !stopped, status.Success() && !stopped
		p.wasReady = p.wasReady || p.ready // one that exited 0 has done what its dependants waited for
		if time.Since(p.startedAt) >= steadyFor {
			p.failuresInRow = 0
		}
		switch {
		case stopped:
			p.move(contract.ProcessStopped, "")
		case restart:
			pause = nextBackoff(p.spec.backoff, p.failuresInRow)
			p.failuresInRow++
			p.move(contract.ProcessBackoff, fmt.Sprintf("%s; starts again in %s", text, pause))
			p.lastFailure = text
		case status.Success():
			p.move(contract.ProcessExited, "")
		default:
			p.move(contract.ProcessFailed, text)
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
		p.update(func() {
			p.move(contract.ProcessStopped, "")
			p.over = true
		})
		return false
	}
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
