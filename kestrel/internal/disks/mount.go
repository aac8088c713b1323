// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount mounts a disk's file system; the kernel replays a journal by itself. What does not keep it from being mounted is
// told to warn.
func (d Disk) Mount(target, fstype string, readOnly bool, warn func(string)) error {
	if err := os.MkdirAll(target, 0o755); err != nil && !isFolder(target) {
		return err
	}
	var flags uintptr
	if readOnly {
		flags = unix.MS_RDONLY
	}
	err := unix.Mount(d.device, target, fstype, flags, "")
	if (err == unix.EACCES || err == unix.EROFS) && !readOnly {
		warn(fmt.Sprintf("%s is write-protected: mounted read-only", d.device))
		err = unix.Mount(d.device, target, fstype, unix.MS_RDONLY, "")
	}
	if err != nil {
		return fmt.Errorf("%s as %s: %w%s", d.device, fstype, err, d.explain(fstype))
	}
	return nil
}

// explain says what the disk holds where that is why it cannot be mounted.
func (d Disk) explain(fstype string) string {
	if !isExt(fstype) {
		return ""
	}
	if _, err := d.superblock(); err != nil {
		return fmt.Sprintf(" (%v)", err)
	}
	return " (its ext4 file system is damaged or of a kind that this kernel does not know)"
}

func isExt(fstype string) bool { return strings.HasPrefix(fstype, "ext") }

// Look tells of damage that a journal does not mend, and makes an ext file system that is mounted as large as its disk.
func (d Disk) Look(target, fstype string, readOnly bool, warn func(string)) error {
	if !isExt(fstype) {
		return nil
	}
	block, err := d.superblock()
	if err != nil {
		return fmt.Errorf("cannot look at the file system on %s: %w", d.device, err)
	}
	if block.hasErrors {
		warn(fmt.Sprintf("the file system on %s is marked as damaged: check it with e2fsck", d.device))
	}
	if blocks := d.sizeBytes / block.blockSize; blocks > block.blockCount && !readOnly {
		if err := grow(target, blocks); err != nil {
			return fmt.Errorf("cannot grow the file system on %s from %d to %d blocks: %w",
				d.device, block.blockCount, blocks, err)
		}
	}
	return nil
}
