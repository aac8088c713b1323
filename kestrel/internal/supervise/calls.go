// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"maps"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/hooks"
)

// Error is the failure of a call about one process or hook, with its code of the control protocol.
type Error struct {
	Code    int // contract.ErrorNotFound, ErrorWrongState or ErrorFailed
	Message string
}

func (e *Error) Error() string { return e.Message }

// StartProcess starts a stopped, exited or failed process.
func (s *Supervisor) StartProcess(name string) error {
	process, err := s.find(name)
	if err != nil {
		return err
	}
	if !process.begin() {
		return &Error{contract.ErrorWrongState, fmt.Sprintf("cannot start process %s: it is started already", name)}
	}
	return nil
}

// StopProcess stops a process until StartProcess or the next boot. It returns when the process has ended.
func (s *Supervisor) StopProcess(name string) error {
	process, err := s.find(name)
	if err != nil {
		return err
	}
	if !process.end() {
		return &Error{contract.ErrorWrongState, fmt.Sprintf("cannot stop process %s: it is not running", name)}
	}
	return nil
}

// RestartProcess stops a process if it runs, and starts it.
func (s *Supervisor) RestartProcess(name string) error {
	process, err := s.find(name)
	if err != nil {
		return err
	}
	process.end()
	process.begin()
	return nil
}

func (s *Supervisor) find(name string) (*process, error) {
	s.mutex.Lock()
	stopping := s.stopping
	process, known := s.byName[name]
	s.mutex.Unlock()
	switch {
	case !known:
		return nil, &Error{contract.ErrorNotFound, fmt.Sprintf("there is no process %q", name)}
	case stopping:
		return nil, &Error{contract.ErrorWrongState, "the guest is stopping"}
	}
	return process, nil
}

// RunHook runs the hooks of that name (pre_start, post_stop, post_restore) now and returns the exit code of the first that failed.
func (s *Supervisor) RunHook(ctx context.Context, name string) (exitCode int, err error) {
	settings := s.config()
	commands := map[string][][]string{
		hooks.PreStart:    settings.Hooks.PreStart,
		hooks.PostStop:    settings.Hooks.PostStop,
		hooks.PostRestore: settings.Hooks.PostRestore,
	}
	list, known := commands[name]
	if !known {
		return 0, &Error{contract.ErrorNotFound, fmt.Sprintf("there is no hook %q: it is pre_start, post_stop or post_restore", name)}
	}
	exitCode, err = s.hookRunner().Run(ctx, name, list)
	if err != nil && exitCode != 0 {
		err = nil // the code says it, and the log says why
	}
	return exitCode, err
}

// Apply changes settings of the manifest: a nil value leaves what is there. A new environment is for processes that
// start from now on; a new health check replaces the old one at once.
func (s *Supervisor) Apply(settings contract.SettingsApply) error {
	if settings.WorkloadEnv != nil {
		s.mutex.Lock()
		s.workloadEnv = maps.Clone(settings.WorkloadEnv)
		s.mutex.Unlock()
	}
	if settings.HealthCheck == nil {
		return nil
	}
	s.mutex.Lock()
	old := s.checks
	s.options.HealthCheck = settings.HealthCheck
	s.checks = s.makeWorkloadChecks(settings.HealthCheck)
	s.checksBegun = false
	s.mutex.Unlock()
	for _, monitor := range old {
		monitor.Close()
	}
	s.update(func() {})
	return nil
}
