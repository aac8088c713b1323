// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// How much of a file the kernel asks for at a time, in KiB, once somebody reads it from one end to the other.
	readAhead = "1024"
	// Folders that are read ahead at a time; of one more, each name is asked for by itself.
	mostAhead = 8
	// How long reading ahead may stand still until whoever waits for it goes on.
	aheadPatience = 50 * time.Millisecond
)

// view is the mounted folder as the guest's other processes see it, from a mount of its own, which nothing covers and nobody
// unmounts. What is read there is in the kernel's cache for all of them: some twenty files by one question of the kernel's,
// where whoever looks at one file after the other makes it ask for each.
type view struct {
	own    func() (root int, err error)
	device uint64 // of the file system, as the kernel counts
	turns  chan struct{}
}

// newView takes the root of the folder's mount, which need not have its place yet.
func newView(root *os.File) *view {
	own := sync.OnceValues(func() (int, error) {
		defer root.Close()
		made, err := unix.OpenTree(int(root.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err == nil { // who watches a folder that is only read is woken, too
			_ = unix.MountSetattr(made, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		}
		return made, err
	})
	return &view{own: own, device: setReadAhead(root), turns: make(chan struct{}, mostAhead)}
}

// setReadAhead changes what the kernel takes for the right size for this file system. Where it does not let us, files are
// read more slowly. It returns the file system's number.
func setReadAhead(root *os.File) uint64 {
	var found unix.Statx_t
	// The number alone, for which nobody is asked.
	if unix.Statx(int(root.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &found) == nil {
		name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", found.Dev_major, found.Dev_minor)
		_ = os.WriteFile(name, []byte(readAhead), 0)
	}
	return uint64(found.Dev_major)<<20 | uint64(found.Dev_minor)
}

// read has the kernel read a folder to its end, and waits until it knows all of it. It does not wait where the kernel does:
// whoever is asking may hold what it needs for that.
func (v *view) read(path string) {
	if v == nil {
		return
	}
	select {
	case v.turns <- struct{}{}:
	default:
		return
	}
	steps := make(chan struct{}, 1)
	go func() {
		defer func() { <-v.turns }()
		defer close(steps)
		v.readAll(path, func() {
			select {
			case steps <- struct{}{}:
			default:
			}
		})
	}()
	still := time.NewTimer(aheadPatience)
	defer still.Stop()
	for {
		select {
		case _, more := <-steps:
			if !more {
				return
			}
			still.Reset(aheadPatience)
		case <-still.C:
			return
		}
	}
}

func (v *view) readAll(path string, step func()) {
	descriptor, err := v.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(descriptor)
	buffer := make([]byte, 32<<10)
	for {
		if count, err := unix.Getdents(descriptor, buffer); err != nil || count <= 0 {
			return
		}
		step()
	}
}

// open opens what is there by exactly that path: no link leads elsewhere, and nothing that was mounted over it.
func (v *view) open(path string, flags uint64) (int, error) {
	root, err := v.own()
	if err != nil {
		return -1, err
	}
	if path == "" {
		path = "."
	}
	return unix.Openat2(root, path, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}
