// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Wrap makes of an init's command one that is started in a place of its own. The cgroup is the init's; everything above
// it passes the controllers on. What is mounted here later arrives there.
func Wrap(command *reaper.Command, cgroup string) error {
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot make a place for %s: %w", command.Path, err)
	}
	passOn(cgroup)
	command.Arguments = append([]string{"kestrel", Argument, command.Path}, command.Arguments...)
	command.Path = contract.RunningAgent
	command.Env = append(command.Env, ContainerVariable)
	attributes := syscall.SysProcAttr{}
	if command.Attributes != nil {
		attributes = *command.Attributes
	}
	attributes.Cloneflags |= Namespaces
	command.Attributes = &attributes
	return nil
}

// passOn enables the controllers in every group above this one, from above, since a group has what its parent passes
// on. One that this kernel lacks must not cost the others.
func passOn(cgroup string) {
	parent := filepath.Dir(cgroup)
	if _, err := os.Stat(filepath.Join(parent, "cgroup.procs")); err != nil {
		return
	}
	passOn(parent)
	for _, controller := range []string{"+cpu", "+io", "+memory", "+pids"} {
		_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte(controller), 0)
	}
}

// ReadEnd tells of an init that has ended because it was asked to power off or to reboot: the kernel turns reboot(2) in
// a PID namespace into a signal that its first process dies of (pid_namespaces(7)).
func ReadEnd(status reaper.Status) (reboot, asked bool) {
	return status.Signal == unix.SIGHUP, status.Signal == unix.SIGHUP || status.Signal == unix.SIGINT
}
