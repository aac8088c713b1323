// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Stamps tell how long each phase of the boot took; loading modules counts apart, being the kernel's time.
type Stamps struct {
	mutex         sync.Mutex
	started, last time.Time
	modules       time.Duration
	phases        []phase
	executed      chan struct{} // closed when the workload was started
	times         contract.BootTimes
}

// phase is one of them; formatting waits until somebody wants to read it.
type phase struct {
	name string
	took time.Duration
}

func NewStamps(started time.Time) *Stamps {
	return &Stamps{started: started, last: started, executed: make(chan struct{})}
}

func (s *Stamps) lap() time.Duration {
	now := time.Now()
	took := now.Sub(s.last)
	s.last = now
	return took
}

func (s *Stamps) Note(name string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.phases = append(s.phases, phase{name, s.lap()})
}

func (s *Stamps) NoteModules() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.modules += s.lap()
}

// noteFurtherModules adds modules that were loaded after the workload's start.
func (s *Stamps) noteFurtherModules(took time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.times.ModuleLoadMs += milliseconds(took)
}

// noteExec ends the count: the workload is started now.
func (s *Stamps) noteExec() {
	s.Note("start")
	s.mutex.Lock()
	defer s.mutex.Unlock()
	close(s.executed)
	s.times.ModuleLoadMs += milliseconds(s.modules)
	s.times.MainToExecMs = milliseconds(s.last.Sub(s.started) - s.modules)
}

func (s *Stamps) hasExecuted() bool {
	select {
	case <-s.executed:
		return true
	default:
		return false
	}
}

func (s *Stamps) bootTimes() contract.BootTimes {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.times
}

func (s *Stamps) String() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	phases := make([]string, 0, len(s.phases))
	for _, phase := range s.phases {
		phases = append(phases, fmt.Sprintf("%s %.1f", phase.name, milliseconds(phase.took)))
	}
	if !s.hasExecuted() {
		return fmt.Sprintf("nothing was started yet (%s), modules %.1f ms",
			strings.Join(phases, ", "), milliseconds(s.modules))
	}
	return fmt.Sprintf("main to exec %.1f ms (%s), modules %.1f ms, %.1f of them before it",
		s.times.MainToExecMs, strings.Join(phases, ", "), s.times.ModuleLoadMs, milliseconds(s.modules))
}

func milliseconds(duration time.Duration) float64 { return float64(duration.Microseconds()) / 1000 }
