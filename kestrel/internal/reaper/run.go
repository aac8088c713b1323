// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"
)

// RunGroup runs a program as the leader of a group of its own and waits for it. When the context ends first, the
// whole group is killed and the context's error is returned along with the status.
func (r *Reaper) RunGroup(ctx context.Context, command Command) (Status, error) {
	_, status, err := r.runGroup(ctx, command)
	return status, err
}

// RunAlone is RunGroup for a program that must leave nothing behind: its group is killed once it has ended by itself, too.
func (r *Reaper) RunAlone(ctx context.Context, command Command) (Status, error) {
	process, status, err := r.runGroup(ctx, command)
	if process != nil {
		_ = process.SignalRest(unix.SIGKILL)
	}
	return status, err
}

func (r *Reaper) runGroup(ctx context.Context, command Command) (*Process, Status, error) {
	attributes := syscall.SysProcAttr{}
	if command.Attributes != nil {
		attributes = *command.Attributes
	}
	if !attributes.Setsid {
		attributes.Setpgid = true
	}
	command.Attributes = &attributes
	process, err := r.Start(command)
	if err != nil {
		return nil, Status{}, err
	}
	select {
	case <-process.Done():
		return process, process.Wait(), nil
	case <-ctx.Done():
		_ = process.SignalGroup(unix.SIGKILL)
		status := process.Wait()
		_ = process.SignalRest(unix.SIGKILL)
		return process, status, ctx.Err()
	}
}
