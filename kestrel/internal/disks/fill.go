// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/copytree"
)

// fillingMark lies in a volume for as long as it is being filled: one that was cut off is filled anew.
const fillingMark = ".volant-filling"

// fill gives a volume that nobody has written to what the image has in its place, with the folder's own owner and mode.
// Images count on that, as Docker does it for a new volume.
func fill(volume, folder string) error {
	held, err := list(volume)
	if err != nil || (len(held) > 0 && !slices.Contains(held, fillingMark)) {
		return err
	}
	mark := filepath.Join(volume, fillingMark)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	for _, name := range held {
		if name != fillingMark {
			err = errors.Join(err, os.RemoveAll(filepath.Join(volume, name)))
		}
	}
	if err != nil {
		return err
	}
	if err := copytree.Content(folder, volume); err != nil {
		return err
	}
	if err := copyOwner(folder, volume); err != nil {
		return err
	}
	unix.Sync()
	return os.Remove(mark)
}

// list is what a volume holds beside what its file system was made with.
func list(volume string) ([]string, error) {
	entries, err := os.ReadDir(volume)
	var names []string
	for _, entry := range entries {
		if entry.Name() != "lost+found" {
			names = append(names, entry.Name())
		}
	}
	return names, err
}

func copyOwner(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	status := info.Sys().(*syscall.Stat_t)
	return errors.Join(os.Chown(to, int(status.Uid), int(status.Gid)), unix.Chmod(to, status.Mode&0o7777))
}
