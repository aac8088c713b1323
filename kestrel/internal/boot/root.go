// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/guest"
	"github.com/volantvm/volant/kestrel/internal/power"
)

const rootFolder = "/root.disk"

// rootDisk is the root on its way: its disk is looked for and mounted beside other work, most of the time of which is
// waiting for the host.
type rootDisk struct {
	wanted  *contract.Root // nil: a plugin that lives in RAM
	journal *guest.Journal
	disk    disk
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
	if r.disk, err = findDisk("/sys/block", r.wanted.Serial, diskPatience); err != nil {
		return fmt.Errorf("cannot find the root disk: %w", err)
	}
	if err := mountDisk(r.disk, rootFolder, r.wanted.Fstype, r.wanted.ReadOnly, r.journal); err != nil {
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
	if r.wanted != nil && isExt(r.wanted.Fstype) {
		r.journal.WarnError(lookAtExt(r.disk, "/", r.wanted.ReadOnly, r.journal))
	}
}

// mountDisk mounts a disk's file system; the kernel replays a journal by itself.
func mountDisk(found disk, target, fstype string, readOnly bool, journal *guest.Journal) error {
	if err := os.MkdirAll(target, 0o755); err != nil && !isFolder(target) {
		return err
	}
	var flags uintptr
	if readOnly {
		flags = unix.MS_RDONLY
	}
	err := unix.Mount(found.device, target, fstype, flags, "")
	if (err == unix.EACCES || err == unix.EROFS) && !readOnly {
		journal.Warn(fmt.Sprintf("%s is write-protected: mounted read-only", found.device))
		err = unix.Mount(found.device, target, fstype, unix.MS_RDONLY, "")
	}
	if err != nil {
		return fmt.Errorf("%s as %s: %w%s", found.device, fstype, err, explainMount(found, fstype))
	}
	return nil
}

// explainMount says what the disk holds where that is why it cannot be mounted.
func explainMount(found disk, fstype string) string {
	if !isExt(fstype) {
		return ""
	}
	if _, err := found.superblock(); err != nil {
		return fmt.Sprintf(" (%v)", err)
	}
	return " (its ext4 file system is damaged or of a kind that this kernel does not know)"
}

func isExt(fstype string) bool { return strings.HasPrefix(fstype, "ext") }

// lookAtExt tells of damage that a journal does not mend, and makes the file system as large as its disk.
func lookAtExt(found disk, target string, readOnly bool, journal *guest.Journal) error {
	block, err := found.superblock()
	if err != nil {
		return fmt.Errorf("cannot look at the file system on %s: %w", found.device, err)
	}
	if block.hasErrors {
		journal.Warn(fmt.Sprintf("the file system on %s is marked as damaged: check it with e2fsck", found.device))
	}
	if blocks := found.sizeBytes / block.blockSize; blocks > block.blockCount && !readOnly {
		if err := grow(target, blocks); err != nil {
			return fmt.Errorf("cannot grow the file system on %s from %d to %d blocks: %w",
				found.device, block.blockCount, blocks, err)
		}
	}
	return nil
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
