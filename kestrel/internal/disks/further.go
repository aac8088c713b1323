// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// blankBytes at its beginning tell whether a disk is blank: every file system writes something there.
const blankBytes = 256 << 10

// staging is where a volume is until it is ready for the workload.
const staging = "/run/volume"

// MountAll mounts the volumes and data disks of guest.json, before anything that may want them is started. Without one of
// them a guest does not boot: its workload would write into the folder below, where nobody looks for it.
func MountAll(mounts []contract.Mount, children *reaper.Reaper, warn func(string)) error {
	for _, wanted := range mounts {
		if err := mountFurther(wanted, children, warn); err != nil {
			return fmt.Errorf("cannot mount the disk %q on %s: %w", wanted.Serial, wanted.Target, err)
		}
	}
	return nil
}

func mountFurther(wanted contract.Mount, children *reaper.Reaper, warn func(string)) error {
	found, err := Find(wanted.Serial)
	if err != nil {
		return err
	}
	if wanted.FormatIfBlank {
		if err := formatIfBlank(found.device, wanted.Fstype, children); err != nil {
			return err
		}
	}
	if err := found.Mount(staging, wanted.Fstype, wanted.ReadOnly, warn); err != nil {
		return err
	}
	if err := found.Look(staging, wanted.Fstype, wanted.ReadOnly, warn); err != nil {
		return err
	}
	if err := os.MkdirAll(wanted.Target, 0o755); err != nil && !isFolder(wanted.Target) {
		return err
	}
	if !wanted.ReadOnly {
		if err := fill(staging, wanted.Target); err != nil {
			return fmt.Errorf("cannot copy what the image has there to the new volume: %w", err)
		}
	}
	return unix.Mount(staging, wanted.Target, "", unix.MS_MOVE, "")
}

// Grow makes the file system of a disk that is mounted as large as the disk has become.
func Grow(serial, target string, warn func(string)) error {
	found, err := find("/sys/block", serial, 0)
	if err != nil {
		return err
	}
	return found.Look(target, "ext4", false, warn)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
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
