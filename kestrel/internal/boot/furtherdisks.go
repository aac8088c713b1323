// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/guest"
	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// blankBytes at its beginning tell whether a disk is blank: every file system writes something there.
const blankBytes = 256 << 10

// mountFurtherDisks mounts the volumes and data disks of guest.json, before anything that may want them is started.
func mountFurtherDisks(mounts []contract.Mount, children *reaper.Reaper, journal *guest.Journal) {
	for _, wanted := range mounts {
		if err := mountFurtherDisk(wanted, children, journal); err != nil {
			journal.Warn(fmt.Sprintf("cannot mount the disk %q on %s: %v", wanted.Serial, wanted.Target, err))
		}
	}
}

func mountFurtherDisk(wanted contract.Mount, children *reaper.Reaper, journal *guest.Journal) error {
	found, err := findDisk("/sys/block", wanted.Serial, diskPatience)
	if err != nil {
		return err
	}
	if wanted.FormatIfBlank {
		if err := formatIfBlank(found.device, wanted.Fstype, children); err != nil {
			return err
		}
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

// formatIfBlank makes a file system by the image's own tool; the agent carries none.
func formatIfBlank(device, fstype string, children *reaper.Reaper) error {
	blank, err := isBlank(device)
	if err != nil || !blank {
		return err
	}
	environment := []string{"PATH=" + contract.DefaultPath}
	tool, err := program.Find("mkfs."+fstype, environment, "/")
	if err != nil {
		return fmt.Errorf("it is blank, and this image has no mkfs.%s: let the host format it, or install the tool in the image", fstype)
	}
	process, err := children.Start(reaper.Command{
		Path:      tool,
		Arguments: []string{tool, "-q", device},
		Env:       environment,
		Directory: "/",
		Files:     []*os.File{nil, nil, os.Stderr},
	})
	if err != nil {
		return err
	}
	if status := process.Wait(); !status.Success() {
		return fmt.Errorf("%s: %v", tool, status)
	}
	return nil
}

func isBlank(device string) (bool, error) {
	file, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	start := make([]byte, blankBytes)
	count, err := io.ReadFull(file, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return bytes.Count(start[:count], []byte{0}) == count, nil
}
