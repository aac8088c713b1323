// SPDX-License-Identifier: Apache-2.0

// Package nested gives a program that must be process 1 (systemd, s6-overlay, another init) a place where it is.
//
// The supervisor starts this agent once more as the first process of a new PID and mount namespace; here the mounts
// are made that an init expects, and then it becomes the init. To the init the guest looks like a container with all
// rights, to the supervisor it is one process that can be checked and stopped like any other.
package nested

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/program"
)

// Argument makes the agent's binary run Main.
const Argument = "as-init"

// ContainerVariable tells systemd that somebody else owns machine, network and clock
// (https://systemd.io/CONTAINER_INTERFACE).
const ContainerVariable = "container=kestrel"

// Namespaces are those that the caller has to make. The one of cgroups is made here: it begins at the group that a
// process is in, and a new process is in its parent's until it has been started.
const Namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS

// Main prepares the namespace and becomes the program PATH with the arguments NAME ARGUMENTS...; it returns an exit
// code only where that fails.
func Main(arguments []string, stderr io.Writer) int {
	if os.Getpid() != 1 || len(arguments) < 2 {
		fmt.Fprintln(stderr, "kestrel: as-init is for the agent's own use")
		return 2
	}
	runtime.LockOSThread() // namespaces are a thread's, and exec keeps this one
	if err := prepare(); err != nil {
		fmt.Fprintf(stderr, "kestrel: cannot make a place for %s: %v\n", arguments[0], err)
		return 126
	}
	err := unix.Exec(arguments[0], arguments[1:], os.Environ())
	fmt.Fprintf(stderr, "kestrel: %v\n", program.Explain(arguments[0], err))
	return 126
}

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// prepare makes the mounts: what is mounted outside later still arrives, what is mounted here stays here. With /sys
// read-only udev does not start, which would manage devices that are not the init's; cgroups can be written.
func prepare() error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("a namespace of cgroups: %w", err)
	}
	kept, err := unix.Open(contract.RuntimeFolder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(kept) }()
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	_ = unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH) // a file system is not mounted over itself
	for _, mount := range []struct {
		source, target, fstype, options string
		flags                           uintptr
	}{
		{"proc", "/proc", "proc", "", quiet},
		{"", "/sys", "", "", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | quiet},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "", quiet},
		{"tmpfs", "/run", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := unix.Mount(mount.source, mount.target, mount.fstype, mount.flags, mount.options); err != nil {
			return fmt.Errorf("mount %s: %w", mount.target, err)
		}
	}
	if err := os.Mkdir(contract.RuntimeFolder, 0o755); err != nil {
		return err
	}
	source := fmt.Sprintf("/proc/self/fd/%d", kept)
	if err := unix.Mount(source, contract.RuntimeFolder, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", contract.RuntimeFolder, err)
	}
	return nil
}
