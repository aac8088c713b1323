// SPDX-License-Identifier: Apache-2.0

// Package folders mounts folders of the host in the guest: by FUSE, from a process of its own that asks the host's file
// server over a virtio-serial port of its own.
//
// The state that must survive a host that goes away is what the guest's kernel holds of files. It is in this guest's memory,
// so a snapshot takes it along, and the server on the host can be replaced at any time.
package folders

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/modules"
	"github.com/volantvm/volant/kestrel/internal/passwd"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const device = "/dev/fuse"

// spared is what the kernel takes into account when it looks for a process to end for its memory: all files of the folders
// go with this one.
const spared = "-900"

// Mount mounts the folders of guest.json and starts the process that serves them. It does not wait for the host: whoever
// looks into a folder does. Everything there belongs to the owner.
func Mount(wanted *contract.HostFolders, owner passwd.Account, children *reaper.Reaper) (*reaper.Process, error) {
	if err := modules.Load("fuse"); err != nil {
		return nil, fmt.Errorf("cannot mount folders of the host: %w", err)
	}
	ordered := order{PortName: wanted.PortName, Mark: wanted.Mark, UID: owner.UID, GID: owner.GID}
	command := reaper.Command{Path: contract.RunningAgent, Directory: "/", Files: []*os.File{nil, nil, os.Stderr}}
	for number, folder := range wanted.Mounts {
		opened, view, err := mount(folder)
		if err != nil {
			for _, each := range command.Release {
				_ = each.Close()
			}
			return nil, fmt.Errorf("cannot mount a folder of the host on %s: %w", folder.Target, err)
		}
		if folder.IsFile {
			ordered.Files = append(ordered.Files, number)
		}
		command.Files, command.Release = append(command.Files, opened, view), append(command.Release, opened, view)
	}
	ordered.Count = len(wanted.Mounts)
	text, err := json.Marshal(ordered)
	if err != nil {
		return nil, err
	}
	command.Arguments = []string{contract.RunningAgent, Argument, string(text)}
	process, err := children.Start(command)
	if err != nil {
		return nil, err
	}
	_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(process.PID()), "oom_score_adj"), []byte(spared), 0)
	// A fork waits, and the only processor of Go with it, until the new program has found its folder: another one must be
	// there for whatever else is to be done meanwhile.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	return process, nil
}

// mount returns what serves the folder, and a way into it that nothing which is mounted over it covers and that holds up
// nobody who unmounts it.
func mount(folder contract.HostFolder) (serves, view *os.File, err error) {
	mode := uint32(unix.S_IFDIR)
	if folder.IsFile {
		mode = unix.S_IFREG
	}
	if err := makeTarget(folder); err != nil {
		return nil, nil, err
	}
	descriptor, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", device, err)
	}
	serves = os.NewFile(uintptr(descriptor), device)
	defer func() {
		if err != nil {
			_ = serves.Close()
		}
	}()
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d",
		descriptor, mode, MaxData)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if err := unix.Mount("host", folder.Target, "fuse.volant", flags, options); err != nil {
		return nil, nil, err
	}
	inside, err := unix.OpenTree(unix.AT_FDCWD, folder.Target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	view = os.NewFile(uintptr(inside), folder.Target)
	if folder.ReadOnly {
		if err := unix.Mount("", folder.Target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil {
			_ = view.Close()
			return nil, nil, err
		}
	}
	return serves, view, nil
}

// makeTarget makes the place where there is none, as Docker does.
func makeTarget(folder contract.HostFolder) error {
	above := folder.Target
	if folder.IsFile {
		above = filepath.Dir(folder.Target)
	}
	if err := os.MkdirAll(above, 0o755); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	if !folder.IsFile {
		return nil
	}
	file, err := os.OpenFile(folder.Target, os.O_RDONLY|os.O_CREATE|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}
