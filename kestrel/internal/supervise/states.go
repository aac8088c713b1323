// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"slices"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// processMoves are the legal moves of a process. Staying where it is, with another reason, is always one.
var processMoves = map[contract.ProcessStatus][]contract.ProcessStatus{
	contract.ProcessWaiting: {
		contract.ProcessStarting, contract.ProcessRunning, contract.ProcessFailed, contract.ProcessStopped,
	},
	contract.ProcessStarting: {contract.ProcessRunning, contract.ProcessFailed, contract.ProcessStopped},
	contract.ProcessRunning: {
		contract.ProcessBackoff, contract.ProcessExited, contract.ProcessFailed, contract.ProcessStopped,
	},
	contract.ProcessBackoff: {
		contract.ProcessWaiting, contract.ProcessStarting, contract.ProcessRunning, contract.ProcessFailed,
		contract.ProcessStopped,
	},
	contract.ProcessExited:  {contract.ProcessWaiting},
	contract.ProcessStopped: {contract.ProcessWaiting},
	// What a failed dependency has kept from starting starts once that one is ready after all.
	contract.ProcessFailed: {
		contract.ProcessWaiting, contract.ProcessStarting, contract.ProcessRunning, contract.ProcessStopped,
	},
}

// phaseMoves are the legal moves of the whole.
var phaseMoves = map[contract.Phase][]contract.Phase{
	contract.PhaseStarting: {contract.PhaseRunning, contract.PhaseFailed, contract.PhaseStopping},
	contract.PhaseRunning:  {contract.PhaseStopping},
	contract.PhaseFailed:   {contract.PhaseStopping},
	contract.PhaseStopping: {contract.PhaseStopped},
}

// move changes the state of a process. Called with the supervisor's lock held.
func (p *process) move(state contract.ProcessStatus, reason string) {
	if p.state != state && !slices.Contains(processMoves[p.state], state) {
		p.supervisor.options.Logs.Say("internal error: process %s went from %s to %s", p.spec.name, p.state, state)
	}
	p.state, p.reason = state, reason
}

// move changes the phase. Called with the lock held.
func (s *Supervisor) move(phase contract.Phase, reason string) {
	if s.phase != phase && !slices.Contains(phaseMoves[s.phase], phase) {
		s.options.Logs.Say("internal error: the phase went from %s to %s", s.phase, phase)
	}
	s.phase, s.reason = phase, reason
}
