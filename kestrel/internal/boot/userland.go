// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/copytree"
	"github.com/volantvm/volant/kestrel/internal/guest"
)

var userlandMounts = []pseudo{
	{"/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", unix.MS_NOSUID | unix.MS_NOEXEC, 0o755},
	{"/dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV, 0o1777},
	{"/dev/mqueue", "mqueue", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, 0o1777},
	{"/sys/fs/cgroup", "cgroup2", "nsdelegate", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, 0o555},
}

// Links that devtmpfs leaves to userland.
var deviceLinks = map[string]string{
	"/dev/fd":     "/proc/self/fd",
	"/dev/stdin":  "/proc/self/fd/0",
	"/dev/stdout": "/proc/self/fd/1",
	"/dev/stderr": "/proc/self/fd/2",
	"/dev/core":   "/proc/kcore",
}

// mountUserland gives a Linux userland what it expects. Nothing of it is worth stopping for.
func mountUserland(journal *guest.Journal) {
	for _, folder := range []string{"/etc", "/run"} {
		_ = os.Mkdir(folder, 0o755)
	}
	if os.Mkdir("/tmp", 0o1777) == nil {
		_ = os.Chmod("/tmp", 0o1777|os.ModeSticky)
	}
	for _, mount := range userlandMounts {
		journal.WarnError(mount.mount())
	}
	for name, target := range deviceLinks {
		_ = os.Symlink(target, name)
	}
	journal.WarnError(mountRun())
}

// mountRun puts a tmpfs on /run and brings over what the image keeps there: packages ship socket folders in it.
func mountRun() error {
	image, err := unix.Open("/run", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot mount /run: %w", err)
	}
	defer func() { _ = unix.Close(image) }()
	run := pseudo{"/run", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV, 0o755}
	if err := run.mount(); err != nil {
		return err
	}
	if err := copytree.Content(fmt.Sprintf("/proc/self/fd/%d", image), "/run"); err != nil {
		return fmt.Errorf("cannot keep all of the image's /run: %w", err)
	}
	return nil
}

// mountSecrets gives a guest that has secrets a place for them that never reaches the disk. A disk of the VM's own may
// still be mounted over it.
func mountSecrets(ports []contract.SecretPort) error {
	if len(ports) == 0 {
		return nil
	}
	return pseudo{"/secrets", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, 0o755}.mount()
}
