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
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

// Mount mounts the folders of guest.json and starts the process that serves them. It does not wait for the host, but where a
// folder has its place in another: whoever looks into a folder does. Everything there belongs to the owner. What is
// mounted at one of the targets below a folder is there afterwards, too.
func Mount(
	wanted *contract.HostFolders, owner passwd.Account, targets []string, children *reaper.Reaper,
) (*reaper.Process, error) {
	if err := modules.Load("fuse"); err != nil {
		return nil, fmt.Errorf("cannot mount folders of the host: %w", err)
	}
	placed, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer tell.Close()
	trees, process, err := start(wanted, owner, placed, children)
	for _, tree := range trees {
		defer tree.Close()
	}
	if err != nil {
		return nil, err
	}
	for number, folder := range wanted.Mounts {
		if err := place(folder, trees[number], targets); err != nil {
			return nil, fmt.Errorf("cannot mount a folder of the host on %s: %w", folder.Target, err)
		}
	}
	return process, nil
}

// start makes the file systems, which are nowhere as yet, and starts what serves them. `placed` is closed at the other end
// once they have their places.
func start(wanted *contract.HostFolders, owner passwd.Account, placed *os.File, children *reaper.Reaper) (
	trees []*os.File, process *reaper.Process, err error,
) {
	ordered := order{
		PortName: wanted.PortName, Mark: wanted.Mark, Count: len(wanted.Mounts), UID: owner.UID, GID: owner.GID,
	}
	command := reaper.Command{
		Path: contract.RunningAgent, Directory: "/", Files: []*os.File{nil, nil, os.Stderr, placed},
		Release: []*os.File{placed},
	}
	for number, folder := range wanted.Mounts {
		serves, tree, err := makeFileSystem(folder)
		if err != nil {
			for _, each := range command.Release {
				_ = each.Close()
			}
			return trees, nil, fmt.Errorf("cannot make the file system of a folder of the host: %w", err)
		}
		if folder.IsFile {
			ordered.Files = append(ordered.Files, number)
		}
		command.Files, command.Release = append(command.Files, serves, tree), append(command.Release, serves)
		trees = append(trees, tree)
	}
	text, err := json.Marshal(ordered)
	if err != nil {
		return trees, nil, err
	}
	command.Arguments = []string{contract.RunningAgent, Argument, string(text)}
	if process, err = children.Start(command); err != nil {
		return trees, nil, err
	}
	_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(process.PID()), "oom_score_adj"), []byte(spared), 0)
	// A fork waits, and the only processor of Go with it, until the new program has found its folder: another one must be
	// there for whatever else is to be done meanwhile.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	return trees, process, nil
}

// makeFileSystem returns what serves a folder, and the root of its mount, which is nowhere in the tree.
func makeFileSystem(folder contract.HostFolder) (serves, tree *os.File, err error) {
	mode := uint32(unix.S_IFDIR)
	if folder.IsFile {
		mode = unix.S_IFREG
	}
	descriptor, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", device, err)
	}
	serves = os.NewFile(uintptr(descriptor), device)
	root, err := mountFuse(map[string]string{
		"source": "host", "subtype": "volant", "fd": strconv.Itoa(descriptor), "rootmode": strconv.FormatUint(uint64(mode), 8),
		"user_id": "0", "group_id": "0", "max_read": strconv.Itoa(MaxData),
	})
	if err != nil {
		_ = serves.Close()
		return nil, nil, err
	}
	return serves, os.NewFile(uintptr(root), folder.Target), nil
}

func mountFuse(settings map[string]string) (root int, err error) {
	context, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fuse: %w", err)
	}
	defer unix.Close(context)
	for name, value := range settings {
		if err := unix.FsconfigSetString(context, name, value); err != nil {
			return -1, fmt.Errorf("fuse: %s: %w", name, err)
		}
	}
	for _, name := range []string{"allow_other", "default_permissions"} {
		if err := unix.FsconfigSetFlag(context, name); err != nil {
			return -1, fmt.Errorf("fuse: %s: %w", name, err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return -1, fmt.Errorf("fuse: %w", err)
	}
	return unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// place puts a folder's mount where it belongs, and over it what is mounted at the targets below.
func place(folder contract.HostFolder, tree *os.File, targets []string) error {
	if err := makeTarget(folder); err != nil {
		return err
	}
	kept := map[string]int{}
	for _, target := range targets {
		if !strings.HasPrefix(target, folder.Target+"/") {
			continue
		}
		mounted, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		defer unix.Close(mounted)
		kept[target] = mounted
	}
	if err := moveTo(folder.Target, int(tree.Fd())); err != nil {
		return err
	}
	if folder.ReadOnly {
		flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
		if err := unix.Mount("", folder.Target, "", flags, ""); err != nil {
			return err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(kept)) {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("what belongs below it has no place: %w", err)
		}
		if err := moveTo(target, kept[target]); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	return nil
}

func moveTo(target string, tree int) error {
	return unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
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
