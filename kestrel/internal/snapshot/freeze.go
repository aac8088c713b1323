// SPDX-License-Identifier: Apache-2.0

// Package snapshot holds a guest still while its host takes its memory and disk, and makes a copy of it a machine of
// its own before anything of its workload runs again.
//
// Processes are held by the cgroup2 freezer (Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze"), file systems by
// FIFREEZE: what lies on the disk then is whole by itself, so that the disk alone boots, too.
package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/fs.h; on amd64 and arm64 alike.
const (
	ioctlFreeze = 0xC0045877
	ioctlThaw   = 0xC0045878
)

// freezePatience bounds the wait for processes that are deep in the kernel.
const freezePatience = 5 * time.Second

// Freezer stops everything but the agent itself. The zero paths are the guest's own.
type Freezer struct {
	Cgroups string // the cgroup2 hierarchy: /sys/fs/cgroup
	Mounts  string // the mount table: /proc/self/mounts

	Processes string // what is known of each process: /proc

	Spared int // a process that all others may wait for, and so is not stopped

	ioctl  func(path string, request uint) error
	frozen []string // mount points of the file systems that are
}

// NewFreezer is the freezer of this guest.
func NewFreezer() *Freezer {
	return &Freezer{Cgroups: "/sys/fs/cgroup", Mounts: "/proc/self/mounts", Processes: "/proc", ioctl: ioctlPath}
}

// Freeze stops all processes, writes what is dirty and, where disks says so, freezes the file systems on them: needed
// where the disk alone is to be whole, and not where its memory goes with it. Where one of it fails, all of it is undone.
func (f *Freezer) Freeze(disks bool) error {
	err := f.freezeProcesses()
	if err == nil {
		unix.Sync()
	}
	if err == nil && disks {
		err = f.eachDisk(func(target string) error {
			err := f.ioctl(target, ioctlFreeze)
			if err == nil || err == unix.EBUSY {
				f.frozen = append(f.frozen, target)
			} else if err != unix.EOPNOTSUPP {
				return fmt.Errorf("cannot freeze the file system at %s: %w", target, err)
			}
			return nil
		})
	}
	if err != nil {
		return errors.Join(err, f.Thaw())
	}
	return nil
}

// Thaw lets everything go on. It is harmless where nothing is frozen.
func (f *Freezer) Thaw() error {
	return errors.Join(f.ThawDisks(), f.ThawProcesses())
}

// ThawDisks lets file systems be written again while processes stay where they are.
func (f *Freezer) ThawDisks() error {
	var problems []error
	for _, target := range f.frozen {
		if err := f.ioctl(target, ioctlThaw); err != nil && err != unix.EINVAL {
			problems = append(problems, fmt.Errorf("cannot thaw the file system at %s: %w", target, err))
		}
	}
	f.frozen = nil
	return errors.Join(problems...)
}

// ThawProcesses lets processes go on.
func (f *Freezer) ThawProcesses() error {
	err := os.WriteFile(filepath.Join(f.group(), "cgroup.freeze"), []byte("0"), 0)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// group is where the supervisor keeps the groups of its processes.
func (f *Freezer) group() string { return filepath.Join(f.Cgroups, "kestrel") }

func (f *Freezer) freezeProcesses() error {
	sessions := filepath.Join(f.group(), "sessions")
	if err := os.MkdirAll(sessions, 0o755); err != nil {
		return fmt.Errorf("cannot stop the guest's processes: %w", err)
	}
	if err := os.WriteFile(filepath.Join(f.group(), "cgroup.freeze"), []byte("1"), 0); err != nil {
		return fmt.Errorf("cannot stop the guest's processes: %w", err)
	}
	// Sessions and what they started lie in the root group, which cannot be frozen. A process that forks while it is
	// moved leaves a child behind: again, until nobody is.
	for deadline := time.Now().Add(freezePatience); ; {
		moved := f.moveStrays(filepath.Join(sessions, "cgroup.procs"))
		if !moved && f.isFrozen() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot stop the guest's processes within %v", freezePatience)
		}
		time.Sleep(time.Millisecond)
	}
}

// moveStrays puts every process but this one into a group. The kernel's own threads stay: each try to move one would
// wait for all processors, for nothing.
func (f *Freezer) moveStrays(target string) (moved bool) {
	data, err := os.ReadFile(filepath.Join(f.Cgroups, "cgroup.procs"))
	if err != nil {
		return false
	}
	own, spared := strconv.Itoa(os.Getpid()), strconv.Itoa(f.Spared)
	for _, pid := range strings.Fields(string(data)) {
		if pid != own && pid != spared && !f.isKernelThread(pid) && os.WriteFile(target, []byte(pid), 0) == nil {
			moved = true
		}
	}
	return moved
}

// isKernelThread says whether a process has no program (proc_pid_cmdline(5)): a zombie has none either, and need not
// move.
func (f *Freezer) isKernelThread(pid string) bool {
	command, err := os.ReadFile(filepath.Join(f.Processes, pid, "cmdline"))
	return err != nil || len(command) == 0
}

func (f *Freezer) isFrozen() bool {
	data, err := os.ReadFile(filepath.Join(f.group(), "cgroup.events"))
	return err == nil && strings.Contains(string(data), "frozen 1")
}

// eachDisk calls with the mount point of each file system that lies on a block device and can be written, once.
func (f *Freezer) eachDisk(act func(target string) error) error {
	data, err := os.ReadFile(f.Mounts)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var problems []error
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "/dev/") || seen[fields[0]] {
			continue
		}
		if strings.HasPrefix(fields[3]+",", "ro,") {
			continue
		}
		seen[fields[0]] = true
		problems = append(problems, act(unescape(fields[1])))
	}
	return errors.Join(problems...)
}

// unescape undoes the octal escapes of mount tables (fstab(5): blanks, tabs, line ends, backslashes).
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

func ioctlPath(path string, request uint) error {
	descriptor, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(descriptor) }()
	return unix.IoctlSetInt(descriptor, request, 0)
}
