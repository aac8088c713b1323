// SPDX-License-Identifier: Apache-2.0

// Package controltest has an agent without a guest, for tests of the protocol's both ends.
package controltest

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/control"
)

// HostKey is what AuthorizeKey answers.
const HostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0yd0dQ1vXKtGYg8PSLJrQbmZtRJH2eYjgLCD2nDGCW host"

// Agent is a guest with one process, "web", and logs that are given to it.
type Agent struct {
	// Authorize takes the keys of ssh.authorize.
	Authorize func(publicKey string, lifetime time.Duration) error

	mutex    sync.Mutex
	phase    contract.Phase
	process  contract.ProcessStatus
	restarts int
	entries  []contract.LogEntry
	watchers map[chan struct{}]struct{}
	logged   chan struct{}
	// Calls lists what was asked for that changes something, as "what argument".
	calls []string
}

// New returns an agent that is running.
func New() *Agent {
	return &Agent{
		phase:    contract.PhaseRunning,
		process:  contract.ProcessRunning,
		watchers: make(map[chan struct{}]struct{}),
		logged:   make(chan struct{}),
	}
}

func (a *Agent) change(call string, apply func()) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.calls = append(a.calls, call)
	apply()
	for watcher := range a.watchers {
		select {
		case watcher <- struct{}{}:
		default:
		}
	}
}

// Calls lists what was asked for so far.
func (a *Agent) Calls() []string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return append([]string(nil), a.calls...)
}

// Log adds lines of the process.
func (a *Agent) Log(lines ...string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for _, line := range lines {
		a.entries = append(a.entries, contract.LogEntry{
			Cursor: strconv.Itoa(len(a.entries) + 1), Time: "2026-01-01T00:00:00Z", Process: "web", Stream: "stdout", Line: line,
		})
	}
	close(a.logged)
	a.logged = make(chan struct{})
}

// Hello greets.
func (a *Agent) Hello() contract.Hello {
	return contract.Hello{AgentVersion: "0.1.0-test", Features: []string{"sftp"}, BootID: "boot-1"}
}

// State tells.
func (a *Agent) State() contract.AgentState {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return contract.AgentState{
		Phase:     a.phase,
		Health:    contract.HealthHealthy,
		Processes: []contract.ProcessState{{Name: "web", State: a.process, Restarts: a.restarts}},
		CloudInit: contract.CloudInitState{Status: "none"},
		Kernel:    "6.1.0",
	}
}

// Subscribe tells of changes.
func (a *Agent) Subscribe() (<-chan struct{}, func()) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	watcher := make(chan struct{}, 1)
	a.watchers[watcher] = struct{}{}
	return watcher, func() {
		a.mutex.Lock()
		defer a.mutex.Unlock()
		delete(a.watchers, watcher)
	}
}

// Watchers is the number of subscriptions.
func (a *Agent) Watchers() int {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return len(a.watchers)
}

// ReadLogs reads what Log added.
func (a *Agent) ReadLogs(
	ctx context.Context, query contract.LogQuery, emit func([]contract.LogEntry) error,
) (string, error) {
	at, _ := strconv.Atoi(query.Cursor)
	for {
		a.mutex.Lock()
		at = min(at, len(a.entries))
		entries, logged := append([]contract.LogEntry(nil), a.entries[at:]...), a.logged
		a.mutex.Unlock()
		if len(entries) > 0 {
			if err := emit(entries); err != nil {
				return strconv.Itoa(at), err
			}
			at += len(entries)
			continue
		}
		if !query.Follow {
			return strconv.Itoa(at), nil
		}
		select {
		case <-logged:
		case <-ctx.Done():
			return strconv.Itoa(at), nil
		}
	}
}

// Stats are made up.
func (a *Agent) Stats() (contract.AgentStats, error) {
	return contract.AgentStats{UptimeSeconds: 1.5, CPUMicroseconds: 2, MemoryTotalBytes: 256 << 20}, nil
}

// ApplySettings is noted.
func (a *Agent) ApplySettings(settings contract.SettingsApply) error {
	a.change("apply "+settings.WorkloadEnv["NAME"], func() {})
	return nil
}

// AuthorizeKey is noted, and passed on where the test wants it.
func (a *Agent) AuthorizeKey(publicKey string, lifetime time.Duration) (string, error) {
	a.change("authorize "+lifetime.String(), func() {})
	if a.Authorize != nil {
		return HostKey, a.Authorize(publicKey, lifetime)
	}
	return HostKey, nil
}

// RunHook is noted and exits with 3.
func (a *Agent) RunHook(_ context.Context, name string) (int, error) {
	a.change("hook "+name, func() {})
	return 3, nil
}

func (a *Agent) find(name string) error {
	if name != "web" {
		return &control.Error{Code: contract.ErrorNotFound, Message: "there is no process " + name}
	}
	return nil
}

// StartProcess is refused while it runs.
func (a *Agent) StartProcess(name string) error {
	if err := a.find(name); err != nil {
		return err
	}
	if a.State().Processes[0].State == contract.ProcessRunning {
		return &control.Error{Code: contract.ErrorWrongState, Message: "web is running"}
	}
	a.change("start "+name, func() { a.process = contract.ProcessRunning })
	return nil
}

// StopProcess stops.
func (a *Agent) StopProcess(name string) error {
	if err := a.find(name); err != nil {
		return err
	}
	a.change("stop "+name, func() { a.process = contract.ProcessStopped })
	return nil
}

// RestartProcess counts.
func (a *Agent) RestartProcess(name string) error {
	if err := a.find(name); err != nil {
		return err
	}
	a.change("restart "+name, func() { a.process, a.restarts = contract.ProcessRunning, a.restarts+1 })
	return nil
}

// SetClock is noted.
func (a *Agent) SetClock(now time.Time) error {
	a.change("clock "+now.UTC().Format(time.RFC3339), func() {})
	return nil
}

// Freeze is noted.
func (a *Agent) Freeze(disks bool) error {
	what := "freeze"
	if !disks {
		what = "freeze processes"
	}
	a.change(what, func() {})
	return nil
}

// Thaw is noted.
func (a *Agent) Thaw() error {
	a.change("thaw", func() {})
	return nil
}

// Wake is noted.
func (a *Agent) Wake(now time.Time, entropy []byte) error {
	a.change("wake at "+strconv.FormatInt(now.UnixNano(), 10)+" with "+strconv.Itoa(len(entropy))+" bytes", func() {})
	return nil
}

// Become is noted.
func (a *Agent) Become(_ context.Context, settings *contract.GuestConfig, entropy []byte) error {
	a.change("become "+settings.VMName+" with "+strconv.Itoa(len(entropy))+" bytes", func() {})
	return nil
}

// GrowVolume notes the call.
func (a *Agent) GrowVolume(serial string) error {
	a.change("grow "+serial, func() {})
	return nil
}

// TakeResources notes the call.
func (a *Agent) TakeResources() error {
	a.change("take resources", func() {})
	return nil
}

// Stop is noted.
func (a *Agent) Stop(request contract.PowerStop) error {
	a.change("power "+request.Action, func() { a.phase = contract.PhaseStopping })
	return nil
}
