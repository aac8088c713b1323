// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

const rootFolder = "/root.disk"

// enterRoot makes the root disk the root of this very process. Nothing is executed again: a second start of the
// binary would cost ten times what moving the mounts costs.
func enterRoot(wanted contract.Root, warnings *Warnings) error {
	found, err := findDisk("/sys/block", wanted.Serial, diskPatience)
	if err != nil {
		return fmt.Errorf("cannot find the root disk: %w", err)
	}
	if err := mountDisk(found, rootFolder, wanted.Fstype, wanted.ReadOnly, warnings); err != nil {
		return fmt.Errorf("cannot mount the root disk: %w", err)
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
	if strings.HasPrefix(wanted.Fstype, "ext") && !wanted.ReadOnly {
		warnings.AddError(growRoot(found))
	}
	return nil
}

// mountDisk mounts a disk's file system. The kernel replays a journal by itself; what a replay does not mend is told.
func mountDisk(found disk, target, fstype string, readOnly bool, warnings *Warnings) error {
	if strings.HasPrefix(fstype, "ext") {
		if err := lookAtSuperblock(found, warnings); err != nil {
			return fmt.Errorf("%s: %w", found.device, err)
		}
	}
	if err := os.MkdirAll(target, 0o755); err != nil && !isFolder(target) {
		return err
	}
	var flags uintptr
	if readOnly {
		flags = unix.MS_RDONLY
	}
	err := unix.Mount(found.device, target, fstype, flags, "")
	if (err == unix.EACCES || err == unix.EROFS) && !readOnly {
		warnings.Add(fmt.Sprintf("%s is write-protected: mounted read-only", found.device))
		err = unix.Mount(found.device, target, fstype, unix.MS_RDONLY, "")
	}
	if err != nil {
		return fmt.Errorf("%s as %s: %w", found.device, fstype, err)
	}
	return nil
}

func lookAtSuperblock(found disk, warnings *Warnings) error {
	device, err := os.Open(found.device)
	if err != nil {
		return err
	}
	defer func() { _ = device.Close() }()
	block, err := readSuperblock(device)
	if err == nil && block.hasErrors {
		warnings.Add(fmt.Sprintf("the file system on %s is marked as damaged: check it with e2fsck", found.device))
	}
	return err
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
