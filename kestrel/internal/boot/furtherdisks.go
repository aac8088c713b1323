// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// mountFurtherDisks mounts the volumes and data disks of guest.json.
func mountFurtherDisks(mounts []contract.Mount, journal *journal) {
	for _, wanted := range mounts {
		if err := mountFurtherDisk(wanted, journal); err != nil {
			journal.warn(fmt.Sprintf("cannot mount the disk %q on %s: %v", wanted.Serial, wanted.Target, err))
		}
	}
}

func mountFurtherDisk(wanted contract.Mount, journal *journal) error {
	found, err := findDisk("/sys/block", wanted.Serial, diskPatience)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(wanted.Target, 0o755); err != nil && !isFolder(wanted.Target) {
		return err
	}
	if err := mountDisk(found, wanted.Target, wanted.Fstype, wanted.ReadOnly, journal); err != nil {
		return err
	}
	if isExt(wanted.Fstype) {
		return lookAtExt(found, wanted.Target, wanted.ReadOnly, journal)
	}
	return nil
}
