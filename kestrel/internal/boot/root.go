// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/disks"
	"github.com/volantvm/volant/kestrel/internal/guest"
	"github.com/volantvm/volant/kestrel/internal/power"
)

const rootFolder = "/root.disk"

// rootDisk is the root on its way: its disk is looked for and mounted beside other work, most of the time of which is
// waiting for the host.
type rootDisk struct {
	wanted  *contract.Root // nil: a plugin that lives in RAM
	journal *guest.Journal
	disk    disks.Disk
	mounted chan error
}

func startMountingRoot(wanted *contract.Root, journal *guest.Journal) *rootDisk {
	root := &rootDisk{wanted: wanted, journal: journal, mounted: make(chan error, 1)}
	if wanted != nil {
		go func() {
			defer power.Guard()
			root.mounted <- root.mount()
		}()
	}
	return root
}

func (r *rootDisk) mount() (err error) {
	if r.disk, err = disks.Find(r.wanted.Serial); err != nil {
		return fmt.Errorf("cannot find the root disk: %w", err)
	}
	if err := r.disk.Mount(rootFolder, r.wanted.Fstype, r.wanted.ReadOnly, r.journal.Warn); err != nil {
		return fmt.Errorf("cannot mount the root disk: %w", err)
	}
	return nil
}

// enter makes the root disk the root of this very process. Nothing is executed again: a second start of the binary
// would cost ten times what moving the mounts costs. Without a root disk the boot archive stays the root.
func (r *rootDisk) enter() error {
	if r.wanted == nil {
		return nil
	}
	if err := <-r.mounted; err != nil {
		return err
	}
	for _, mount := range earlyMounts {
		target := rootFolder + mount.target
		_ = os.Mkdir(target, mount.mode)
		if err := unix.Mount(mount.target, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("cannot enter the root disk: it has no folder %s and takes none: %w", mount.target, err)
		}
	}
	if err := switchRoot(rootFolder); err != nil {
		return fmt.Errorf("cannot enter the root disk: %w", err)
	}
	return nil
}

// look reports damage and grows the file system to its disk.
func (r *rootDisk) look() {
	if r.wanted != nil {
		r.journal.WarnError(r.disk.Look("/", r.wanted.Fstype, r.wanted.ReadOnly, r.journal.Warn))
	}
}

// switchRoot is switch_root(8) without its exec.
func switchRoot(folder string) error {
	if err := unix.Chdir(folder); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}
