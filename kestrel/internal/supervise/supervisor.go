// SPDX-License-Identifier: Apache-2.0

// Package supervise runs what the guest exists to run: the entries of the kestrel config, or the image's own command.
//
// Each process has a loop (process.go) that lives while the process is wanted: wait for dependencies, start, attend,
// decide on another start. Everything that is known about processes is guarded by the supervisor's one lock, and every
// change goes through Supervisor.update, which works out phase and result and tells subscribers.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/volantvm/volant/kestrel/internal/attach"
	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/health"
	"github.com/volantvm/volant/kestrel/internal/hooks"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/passwd"
	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Options of New. Paths that are empty are the guest's own.
type Options struct {
	Reaper *reaper.Reaper
	Logs   *logs.Store

	Image       contract.ImageConfig // /etc/kestrel/image.json
	Workload    contract.Workload    // the manifest's
	HealthCheck *contract.HealthCheck

	Root            string // the folder that holds /etc of passwd and group; default the guest's own
	ConfigPath      string // default /etc/kestrel/config.yaml; a file that does not exist means the image's command
	EnvironmentPath string // default /etc/environment

	// Prepare is called once before the first hook and process; its failure is the workload's. nil: nothing to do.
	Prepare func(ctx context.Context) error
	// WaitForVsock returns when the channel to (cid, port) is open; nil: it is taken to be open.
	WaitForVsock func(ctx context.Context, cid, port uint32) error
	// OnFirstExec is called once, right before the first process is started (boot times).
	OnFirstExec func()
	// OnInitEnd is called, on a goroutine of its own, when an init has ended by itself because somebody asked it to
	// power off or, with true, to reboot.
	OnInitEnd func(reboot bool)
	// OnResult is called once, on a goroutine of its own, when a batch workload has ended, with the VM's result.
	OnResult func(code int)
}

// State is what the supervisor contributes to contract.AgentState.
type State struct {
	Phase        contract.Phase // starting, running, stopping, stopped or failed
	Reason       string         // why it is failed
	Health       contract.HealthState
	HealthReason string
	Checks       []contract.Check
	Processes    []contract.ProcessState
	Result       *int // of a batch workload: when it has ended, or has been stopped
}

// Supervisor runs the processes of one guest.
type Supervisor struct {
	options   Options
	settings  *config.Config // this and the next two: set once, by load, under the lock
	processes []*process
	byName    map[string]*process
	firstExec sync.Once
	stopOnce  sync.Once
	starting  chan struct{} // closed when the start sequence is over
	cancel    context.CancelFunc
	startCtx  context.Context //nolint:containedctx // ends the start sequence when Stop comes first
	killed    chan struct{}   // closed when the deadline of Stop has passed
	loops     sync.WaitGroup
	memory    memoryWatch
	station   *attach.Station // nil: the workload has neither input nor terminal

	mutex       sync.Mutex
	phase       contract.Phase
	reason      string
	workloadEnv map[string]string
	result      *int
	checks      []*health.Monitor // of the workload, not of an entry
	checksBegun bool
	subscribers map[chan struct{}]struct{}
	started     bool
	stopping    bool
}

// New makes a supervisor that has not started anything.
func New(options Options) *Supervisor {
	if options.ConfigPath == "" {
		options.ConfigPath = contract.KestrelConfigPath
	}
	if options.EnvironmentPath == "" {
		options.EnvironmentPath = filepath.Join("/", options.Root, "etc/environment")
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Supervisor{
		options:  options,
		settings: &config.Config{Hooks: config.Hooks{Timeout: config.DefaultHookTimeout}},
		byName:   make(map[string]*process),
		starting: make(chan struct{}),
		startCtx: ctx,
		cancel:   cancel,
		killed:   make(chan struct{}),
		phase:    contract.PhaseStarting,
		memory:   memoryWatch{kills: firstKills()},
		station: attach.New(attach.Settings{
			Stdin: options.Workload.Stdin, Once: options.Workload.StdinOnce, Terminal: options.Workload.Terminal,
		}),
		workloadEnv: maps.Clone(options.Workload.Env),
		subscribers: make(map[chan struct{}]struct{}),
	}
}

// Start reads the configuration and starts everything; it returns once the configuration is read, while hooks and
// processes start on goroutines of their own. It is called once; after Stop it does nothing. A broken configuration
// does not fail: it becomes the state "failed" with the reason, and the guest stays up.
func (s *Supervisor) Start() {
	s.mutex.Lock()
	if s.started || s.stopping {
		s.mutex.Unlock()
		return
	}
	s.started = true
	s.mutex.Unlock()
	if os.Getpid() == 1 {
		if err := raiseLimits(); err != nil {
			s.options.Logs.Say("%v", err)
		}
	}
	if err := s.load(); err != nil {
		s.fail(err)
		close(s.starting)
		return
	}
	go func() {
		defer close(s.starting)
		if s.options.Prepare != nil {
			if err := s.options.Prepare(s.startCtx); err != nil {
				if s.startCtx.Err() == nil {
					s.fail(err)
				}
				return
			}
		}
		if len(s.settings.Hooks.PreStart) > 0 {
			if _, err := s.hookRunner().Run(s.startCtx, hooks.PreStart, s.settings.Hooks.PreStart); err != nil {
				if s.startCtx.Err() == nil {
					s.fail(err)
				}
				return
			}
		}
		for _, process := range s.processes {
			if s.startCtx.Err() != nil {
				return
			}
			process.begin()
		}
	}()
}

// load makes processes and checks of the config.
func (s *Supervisor) load() error {
	settings, specs, err := s.read()
	if err != nil {
		return err
	}
	processes := make([]*process, 0, len(specs))
	byName := make(map[string]*process, len(specs))
	for _, spec := range specs {
		process := newProcess(s, spec)
		processes = append(processes, process)
		byName[spec.name] = process
	}
	for _, process := range processes {
		for _, name := range process.spec.dependsOn {
			byName[name].dependants = append(byName[name].dependants, process)
			process.dependencies = append(process.dependencies, byName[name])
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.settings, s.processes, s.byName = settings, processes, byName
	s.checks = s.makeWorkloadChecks(s.options.HealthCheck)
	return nil
}

// read is the configuration with everything that runs.
func (s *Supervisor) read() (*config.Config, []spec, error) {
	path := s.options.ConfigPath
	settings := &config.Config{Hooks: config.Hooks{Timeout: config.DefaultHookTimeout}}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, fmt.Errorf("cannot read the config: %w", err)
	default:
		var problems []config.Problem
		if settings, problems = config.Parse(path, data); len(problems) > 0 {
			return nil, nil, s.explain(problems)
		}
	}
	specs, err := makeSpecs(settings, s.options.Image, s.options.Workload, s.options.Root)
	return settings, specs, err
}

// Owner is the account of the first process that stays: root where nothing says otherwise, or nothing can run.
func (s *Supervisor) Owner() passwd.Account {
	name := ""
	if _, specs, err := s.read(); err == nil {
		for _, each := range specs {
			if name = each.user; !each.runOnce {
				break
			}
		}
	}
	identity, err := program.FindIdentity(s.options.Root, name)
	if err != nil {
		identity, _ = program.FindIdentity(s.options.Root, "")
	}
	return identity.Account
}

// explain logs every problem and returns the first, with the number of others.
func (s *Supervisor) explain(problems []config.Problem) error {
	for _, problem := range problems {
		s.options.Logs.Say("%s:%d:%d: %s: %s", problem.File, problem.Line, problem.Column, problem.Message, problem.Resolution)
	}
	first := problems[0]
	text := fmt.Sprintf("the config is not valid: %s:%d: %s", first.File, first.Line, first.Message)
	if others := len(problems) - 1; others > 0 {
		text += fmt.Sprintf(" (and %d more: journalctl -u kestrel)", others)
	}
	return errors.New(text)
}

func (s *Supervisor) fail(err error) {
	s.options.Logs.Say("%v", err)
	if s.station != nil {
		s.station.Close()
	}
	s.update(func() { s.move(contract.PhaseFailed, err.Error()) })
}

// Stop stops all processes in the reverse order of their dependencies and runs the post_stop hooks. What is left at
// the end of the context is killed. It returns when nothing is left; further calls wait for the first.
func (s *Supervisor) Stop(ctx context.Context) {
	s.stopOnce.Do(func() { s.stop(ctx) })
}

func (s *Supervisor) stop(ctx context.Context) {
	started := false
	s.update(func() {
		s.move(contract.PhaseStopping, s.reason)
		s.stopping, started = true, s.started
	})
	s.cancel()
	defer context.AfterFunc(ctx, func() { close(s.killed) })()
	if started {
		<-s.starting
	}
	for _, monitor := range s.workloadChecks() {
		monitor.Close()
	}
	var all sync.WaitGroup
	for _, process := range s.processes {
		all.Go(func() {
			for _, dependant := range process.dependants {
				<-dependant.ended
			}
			process.end()
			close(process.ended)
		})
	}
	all.Wait()
	s.loops.Wait()
	if len(s.settings.Hooks.PostStop) > 0 {
		if ctx.Err() != nil {
			s.options.Logs.Say("the post_stop hooks are not run: no time is left")
		} else {
			_, _ = s.hookRunner().Run(ctx, hooks.PostStop, s.settings.Hooks.PostStop)
		}
	}
	s.update(func() {
		s.move(contract.PhaseStopped, s.reason)
		if s.options.Workload.EndsWithProcesses() && s.result == nil {
			s.result = s.stoppedResult()
		}
	})
}

func (s *Supervisor) hookRunner() hooks.Runner {
	return hooks.Runner{
		Reaper: s.options.Reaper, Logs: s.options.Logs, Environment: s.Environment(), Timeout: s.config().Hooks.Timeout,
	}
}

func (s *Supervisor) config() *config.Config {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.settings
}

// Environment is what root's processes and sessions get: image, manifest and /etc/environment, with PATH led by
// kestrel's own folder.
func (s *Supervisor) Environment() []string {
	return program.LeadPath(program.Merge([]string{"HOME=/root"}, s.environment()))
}

// update changes state under the lock, works out what follows from it, and tells whoever listens.
func (s *Supervisor) update(change func()) {
	s.mutex.Lock()
	change()
	begin := s.deriveState()
	for subscriber := range s.subscribers {
		select {
		case subscriber <- struct{}{}:
		default: // it has not looked at the last change yet
		}
	}
	s.mutex.Unlock()
	for _, monitor := range begin {
		monitor.Begin()
	}
}

// deriveState works out phase and result. It returns the monitors that have to begin. Called with the lock held.
func (s *Supervisor) deriveState() (begin []*health.Monitor) {
	if s.stopping || len(s.processes) == 0 || s.phase == contract.PhaseFailed {
		return nil
	}
	allUp, allLaunched, allEnded := true, true, true
	for _, process := range s.processes {
		allUp = allUp && (process.up || process.state == contract.ProcessStopped)
		allLaunched = allLaunched && process.state != contract.ProcessWaiting && process.state != contract.ProcessStarting
		allEnded = allEnded && (process.state == contract.ProcessExited || process.state == contract.ProcessFailed)
	}
	// The start is over, too, when it is known to have gone wrong: nobody may wait for it for ever.
	if verdict, _ := s.assessHealth(); s.phase == contract.PhaseStarting && (allUp || verdict == contract.HealthUnhealthy) {
		s.move(contract.PhaseRunning, "")
	}
	if allLaunched && !s.checksBegun {
		s.checksBegun = true
		begin = s.checks
	}
	if s.options.Workload.EndsWithProcesses() && allEnded && s.result == nil {
		code := s.batchResult()
		s.result = &code
		if s.options.OnResult != nil {
			go s.options.OnResult(code)
		}
	}
	return begin
}

// batchResult is the exit code of the first process that failed, else 0.
func (s *Supervisor) batchResult() int {
	for _, process := range s.processes {
		switch {
		case process.state != contract.ProcessFailed:
		case process.exit != nil:
			return process.exit.ExitCode()
		default:
			return 127 // it could not be started, as a shell reports it
		}
	}
	return 0
}

// stoppedResult is how a workload ended that was asked to: the exit code of the first process that did not end well,
// else 0. Of one that never ran in full there is none.
func (s *Supervisor) stoppedResult() *int {
	var result *int
	for _, process := range s.processes {
		if process.exit == nil {
			return nil
		}
		if result == nil || *result == 0 {
			result = new(process.exit.ExitCode())
		}
	}
	return result
}

// State is a copy of the present state.
func (s *Supervisor) State() State {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	state := State{Phase: s.phase, Reason: s.reason}
	if s.result != nil {
		result := *s.result
		state.Result = &result
	}
	for _, process := range s.processes {
		state.Processes = append(state.Processes, process.describe())
	}
	state.Checks = s.describeChecks()
	state.Health, state.HealthReason = s.assessHealth()
	return state
}

// Subscribe returns a channel that gets a value after every change (changes that come together are told once), and
// a function that ends the subscription.
func (s *Supervisor) Subscribe() (changes <-chan struct{}, cancel func()) {
	subscriber := make(chan struct{}, 1)
	s.mutex.Lock()
	s.subscribers[subscriber] = struct{}{}
	s.mutex.Unlock()
	return subscriber, func() {
		s.mutex.Lock()
		delete(s.subscribers, subscriber)
		s.mutex.Unlock()
	}
}

// StopDeadline is how long Stop needs at most if every process uses up its own stop_timeout.
func (s *Supervisor) StopDeadline() time.Duration {
	longest := make(map[*process]time.Duration)
	var measure func(process *process) time.Duration
	measure = func(process *process) time.Duration {
		if known, ok := longest[process]; ok {
			return known
		}
		var before time.Duration
		for _, dependant := range process.dependants {
			before = max(before, measure(dependant))
		}
		longest[process] = before + process.spec.stopTimeout
		return longest[process]
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var total time.Duration
	for _, process := range s.processes {
		total = max(total, measure(process))
	}
	return total + time.Duration(len(s.settings.Hooks.PostStop))*s.settings.Hooks.Timeout
}
