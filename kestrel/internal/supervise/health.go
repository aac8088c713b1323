// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/health"
)

// assessHealth is the health of the VM, with the reason where it is not well. Called with the lock held.
func (s *Supervisor) assessHealth() (contract.HealthState, string) {
	if s.phase == contract.PhaseFailed {
		return contract.HealthUnhealthy, s.reason
	}
	if s.stopping {
		return contract.HealthUnknown, ""
	}
	comingUp := false
	for _, process := range s.processes {
		if trouble := process.findTrouble(); trouble != "" {
			return contract.HealthUnhealthy, fmt.Sprintf("process %s: %s", process.spec.name, trouble)
		}
		comingUp = comingUp || process.isComingBack()
	}
	verdict, reason := assessChecks(s.countingChecks())
	if comingUp && verdict != contract.HealthUnhealthy {
		verdict = contract.HealthStarting
	}
	return verdict, reason
}

// findTrouble says what makes the VM unhealthy whatever its checks say; empty for nothing. Called with the lock held.
func (p *process) findTrouble() string {
	switch p.state {
	case contract.ProcessFailed:
		return p.reason
	case contract.ProcessBackoff:
		if p.wasReady || p.failuresInRow >= triesBeforeUnhealthy {
			return p.reason
		}
	case contract.ProcessStarting, contract.ProcessRunning:
		// Between two crashes it is up for a moment, which proves nothing.
		if !p.up && p.failuresInRow >= triesBeforeUnhealthy {
			return p.lastFailure
		}
	}
	return ""
}

// isComingBack: it has ended and is tried again. Called with the lock held.
func (p *process) isComingBack() bool {
	switch p.state {
	case contract.ProcessBackoff:
		return true
	case contract.ProcessStarting, contract.ProcessRunning:
		return p.failuresInRow > 0 && !p.up
	}
	return false
}

// countingChecks are the workload's, else those of the entries that are to run. Called with the lock held.
func (s *Supervisor) countingChecks() []*health.Monitor {
	if len(s.checks) > 0 {
		return s.checks
	}
	var monitors []*health.Monitor
	for _, process := range s.processes {
		if process.state != contract.ProcessExited && process.state != contract.ProcessStopped {
			monitors = append(monitors, process.monitors...)
		}
	}
	return monitors
}

// assessChecks: one that is unhealthy decides, else one that is starting; without any nothing is known.
func assessChecks(monitors []*health.Monitor) (contract.HealthState, string) {
	if len(monitors) == 0 {
		return contract.HealthUnknown, ""
	}
	verdict, starting := contract.HealthHealthy, ""
	for _, monitor := range monitors {
		state, reason := monitor.State()
		switch state {
		case contract.HealthUnhealthy:
			return contract.HealthUnhealthy, fmt.Sprintf("check %s: %s", monitor.Check().Name, reason)
		case contract.HealthHealthy:
		default:
			verdict, starting = contract.HealthStarting, reason
		}
	}
	return verdict, starting
}
