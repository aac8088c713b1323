// SPDX-License-Identifier: Apache-2.0

// Package supervise runs what the guest exists to run: the entries of the kestrel config, or the image's own command.
package supervise

import (
	"context"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Options of New. Paths that are empty are the guest's own.
type Options struct {
	Reaper *reaper.Reaper
	Logs   *logs.Store

	Image       contract.ImageConfig // /etc/kestrel/image.json
	Workload    contract.Workload    // the manifest's
	HealthCheck *contract.HealthCheck

	ConfigPath      string // default /etc/kestrel/config.yaml; a file that does not exist means the image's command
	EnvironmentPath string // default /etc/environment
	PasswdPath      string // default /etc/passwd
	GroupPath       string // default /etc/group

	// WaitForVsock returns when the channel to (cid, port) is open; nil: it is taken to be open.
	WaitForVsock func(ctx context.Context, cid, port uint32) error
	// OnFirstExec is called once, right before the first process is started (boot times).
	OnFirstExec func()
	// OnResult is called once when a batch workload has ended, with the VM's result.
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
	Result       *int
}

// Supervisor runs the processes of one guest.
type Supervisor struct{ options Options }

// New makes a supervisor that has not started anything.
func New(options Options) *Supervisor { return &Supervisor{options: options} }

// Start reads the configuration and starts everything; it returns at once. A broken configuration does not fail: it
// becomes the state "failed" with the reason, and the guest stays up.
func (s *Supervisor) Start() {}

// Stop stops all processes in the reverse order of their dependencies and runs the post_stop hooks. What is left at
// the end of the context is killed. It returns when nothing is left.
func (s *Supervisor) Stop(ctx context.Context) {}

// State is a copy of the present state.
func (s *Supervisor) State() State { return State{} }

// Subscribe returns a channel that gets a value after every change (changes that come together are told once), and
// a function that ends the subscription.
func (s *Supervisor) Subscribe() (changes <-chan struct{}, cancel func()) { return nil, func() {} }

// Errors of the process calls. ErrNotFound: there is no process of this name; ErrWrongState: it is not running.
type Error struct {
	Code    int // contract.ErrorNotFound, ErrorWrongState or ErrorFailed
	Message string
}

func (e *Error) Error() string { return e.Message }

// StartProcess starts a stopped, exited or failed process.
func (s *Supervisor) StartProcess(name string) error { return nil }

// StopProcess stops a process until StartProcess or the next boot.
func (s *Supervisor) StopProcess(name string) error { return nil }

// RestartProcess stops a process if it runs, and starts it.
func (s *Supervisor) RestartProcess(name string) error { return nil }

// RunHook runs the hooks of that name (pre_start, post_stop) now and returns the first exit code that is not 0.
func (s *Supervisor) RunHook(ctx context.Context, name string) (exitCode int, err error) { return 0, nil }

// Apply changes settings of the manifest: a nil value leaves what is there. A new environment is for processes that
// start from now on; a new health check replaces the old one at once.
func (s *Supervisor) Apply(settings contract.SettingsApply) error { return nil }

// Environment is what a process (or a session) gets: image, manifest and /etc/environment, with PATH led by
// kestrel's own folder.
func (s *Supervisor) Environment() []string { return nil }

// StopDeadline is how long Stop needs at most if every process uses up its own stop_timeout.
func (s *Supervisor) StopDeadline() time.Duration { return 0 }
