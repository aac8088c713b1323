// SPDX-License-Identifier: Apache-2.0

// Package health asks the workload, again and again, whether it is well.
//
// A check is "starting" until its first success or until it has failed for `retries` intervals after the start period;
// then it is healthy or unhealthy and turns over after one success or `retries` failures in a row. While it is
// starting it asks more often than its interval says: whoever made the VM is waiting for the first success.
package health

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	quickest   = 50 * time.Millisecond
	quickMost  = 500 * time.Millisecond
	quickPhase = 30 * time.Second
	quickLater = 2 * time.Second
	// A workload that has just been started is not ready yet, and nobody asks why.
	quiet = time.Second
)

// Options of New.
type Options struct {
	Check  config.Check
	Reaper *reaper.Reaper
	// Prepare makes the command of an exec check: path looked up, environment, identity.
	Prepare func(command string, arguments []string) (reaper.Command, error)
	// Changed is called after every change of state or reason, without locks; it must not block for long.
	Changed func()
	// Unhealthy is called, on a goroutine of its own, when the check turns unhealthy.
	Unhealthy func()
}

// Monitor runs one check while its owner runs.
type Monitor struct {
	options Options
	probe   probe

	mutex    sync.Mutex
	state    contract.HealthState
	reason   string
	changed  time.Time
	failures int
	cancel   context.CancelFunc // nil while the owner does not run
	finished chan struct{}
	closed   bool
}

// New makes a monitor that asks nothing before Begin.
func New(options Options) *Monitor {
	monitor := &Monitor{options: options, state: contract.HealthUnknown, changed: time.Now()}
	check := options.Check
	switch check.Kind {
	case config.CheckHTTP:
		monitor.probe = probeHTTP(check.Port, check.Path)
	case config.CheckTCP:
		monitor.probe = probeTCP(check.Port)
	case config.CheckExec:
		prepare := func() (reaper.Command, error) { return options.Prepare(check.Command, check.Args) }
		monitor.probe = probeExec(options.Reaper, prepare, check.SuccessPattern)
	}
	return monitor
}

// Begin starts to ask: the owner has started. After Close it does nothing.
func (m *Monitor) Begin() {
	m.End(contract.HealthStarting, "")
	ctx, cancel := context.WithCancel(context.Background())
	finished := make(chan struct{})
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.closed || m.cancel != nil {
		cancel()
		return
	}
	m.cancel, m.finished, m.failures = cancel, finished, 0
	go m.loop(ctx, finished)
}

// End stops asking, because the owner has ended, and says in which state the check is meanwhile.
func (m *Monitor) End(state contract.HealthState, reason string) {
	m.mutex.Lock()
	cancel, finished := m.cancel, m.finished
	m.cancel = nil
	m.mutex.Unlock()
	if cancel != nil {
		cancel()
		<-finished
	}
	m.set(context.Background(), state, reason, 0)
}

// Close ends for good.
func (m *Monitor) Close() {
	m.mutex.Lock()
	m.closed = true
	m.mutex.Unlock()
	m.End(contract.HealthUnknown, "")
}

// State is the state and, unless it is healthy, the reason of the last failure.
func (m *Monitor) State() (contract.HealthState, string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.state, m.reason
}

// Check is the state as the protocol shows it.
func (m *Monitor) Check() contract.Check {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return contract.Check{
		Name:      m.options.Check.Name,
		Kind:      string(m.options.Check.Kind),
		State:     m.state,
		Reason:    m.reason,
		ChangedAt: m.changed.UTC().Format(time.RFC3339Nano),
		Failures:  m.failures,
	}
}

// set notes a state. The loop passes its context: what End has said since must stay.
func (m *Monitor) set(ctx context.Context, state contract.HealthState, reason string, failures int) {
	m.mutex.Lock()
	if ctx.Err() != nil {
		m.mutex.Unlock()
		return
	}
	different := m.state != state || m.reason != reason
	if m.state != state {
		m.changed = time.Now()
	}
	m.state, m.reason, m.failures = state, reason, failures
	m.mutex.Unlock()
	if different && m.options.Changed != nil {
		m.options.Changed()
	}
}

// loop asks until the context ends. Nothing is waited for more often than the interval once the check has settled.
func (m *Monitor) loop(ctx context.Context, finished chan<- struct{}) {
	check := m.options.Check
	begun := time.Now()
	counted := begun.Add(check.StartPeriod) // from when the next failure counts while starting
	pause := quickest
	failures, lastReason := 0, ""
	state := contract.HealthStarting
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer close(finished)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := m.ask(ctx, check.Timeout)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		switch {
		case err == nil:
			state, failures, lastReason = contract.HealthHealthy, 0, ""
		case state == contract.HealthStarting:
			if now.Sub(counted) >= check.Interval {
				failures++
				counted = counted.Add(check.Interval)
			}
			if now.Sub(begun) > quiet || failures >= check.Retries {
				lastReason = err.Error()
			}
		default:
			lastReason = err.Error()
			failures++
		}
		turns := failures >= check.Retries && state != contract.HealthUnhealthy
		if turns {
			state = contract.HealthUnhealthy
		}
		reason := lastReason
		if state == contract.HealthHealthy { // it has failed since, but not often enough to count
			reason = ""
		}
		m.set(ctx, state, reason, failures)
		if turns && m.options.Unhealthy != nil {
			go m.options.Unhealthy() // it may restart the owner, and so wait for the end of this loop
		}
		next := check.Interval
		if state == contract.HealthStarting {
			next = min(check.Interval, pause)
			pause = min(quickMost, pause*3/2)
			if now.Sub(begun) > quickPhase {
				next = min(check.Interval, quickLater)
			}
		}
		timer.Reset(next)
	}
}

func (m *Monitor) ask(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := m.probe(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer within the timeout")
	}
	return err
}
