// SPDX-License-Identifier: Apache-2.0

// Package hooks runs the commands of `hooks`: once a boot, as root, in order, each within a time of its own.
package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Names of the hooks, in the config, in the protocol and as the process of their log lines.
const (
	PreStart    = "pre_start"
	PostStop    = "post_stop"
	PostRestore = "post_restore"
)

// drainLimit is how long the last output of a hook is waited for.
const drainLimit = 200 * time.Millisecond

// Runner runs hooks.
type Runner struct {
	Reaper      *reaper.Reaper
	Logs        *logs.Store
	Environment []string
	Timeout     time.Duration // of each command
}

// Run runs the commands one after the other and stops at the first that fails, with its exit code and the reason.
func (r Runner) Run(ctx context.Context, name string, commands [][]string) (exitCode int, err error) {
	for _, command := range commands {
		if exitCode, err = r.runOne(ctx, name, command); err != nil {
			r.Logs.Say("%v", err)
			return exitCode, err
		}
	}
	return 0, nil
}

func (r Runner) runOne(ctx context.Context, name string, arguments []string) (int, error) {
	title := fmt.Sprintf("%s hook %s", name, strings.Join(arguments, " "))
	path, err := program.Find(arguments[0], r.Environment, "/")
	if err != nil {
		return 127, fmt.Errorf("%s: %w", title, err)
	}
	stdout, err := r.Logs.Pipe(name, logs.Stdout)
	if err != nil {
		return 1, fmt.Errorf("%s: %w", title, err)
	}
	stderr, err := r.Logs.Pipe(name, logs.Stderr)
	if err != nil {
		_ = stdout.Write.Close()
		return 1, fmt.Errorf("%s: %w", title, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	status, err := r.Reaper.RunGroup(ctx, reaper.Command{
		Path:      path,
		Arguments: arguments,
		Env:       r.Environment,
		Directory: "/",
		Files:     []*os.File{nil, stdout.Write, stderr.Write},
		Release:   []*os.File{stdout.Write, stderr.Write},
	})
	stdout.WaitDrained(drainLimit)
	stderr.WaitDrained(drainLimit)
	var failure *os.PathError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return status.ExitCode(), fmt.Errorf("%s did not end within %s and was killed", title, r.Timeout)
	case errors.As(err, &failure):
		return 126, fmt.Errorf("%s: %w", title, program.Explain(path, err))
	case err != nil:
		return status.ExitCode(), fmt.Errorf("%s: %w", title, err)
	case !status.Success():
		return status.ExitCode(), fmt.Errorf("%s %s", title, status)
	}
	return 0, nil
}
