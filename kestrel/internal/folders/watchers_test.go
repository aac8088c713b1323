// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func TestAWatcherIsFoundByWhatItWatches(t *testing.T) {
	processes := t.TempDir()
	add := func(process, number, target, info string) {
		folder := filepath.Join(processes, process)
		for _, each := range []string{"fd", "fdinfo"} {
			if err := os.MkdirAll(filepath.Join(folder, each), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(target, filepath.Join(folder, "fd", number)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "fdinfo", number), []byte(info), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	watch := "pos:\t0\nflags:\t02000000\ninotify wd:1 ino:7b0a5 sdev:1a mask:fff ignored_mask:0 fhandle-bytes:c\n"
	add("12", "1", "/var/log/file", watch) // a file may say anything
	add("self", "3", "anon_inode:inotify", watch)
	if hasWatcher(processes, 0x1a) {
		t.Error("nobody watches")
	}
	add("12", "3", "anon_inode:inotify", watch)
	if !hasWatcher(processes, 0x1a) {
		t.Error("12 watches")
	}
	for _, other := range []uint64{0x1, 0xa, 0x1a0, 0x1b} {
		if hasWatcher(processes, other) {
			t.Errorf("nobody watches anything on %x", other)
		}
	}
}

func TestAModeThatWakesWatchersStaysInTheGuest(t *testing.T) {
	s := &lists{told: listWatched, names: map[string]uint32{"file": unix.S_IFREG}}
	var asked []operation
	folder := startFolder(t, func(op operation, body []byte) (syscall.Errno, []byte) {
		asked = append(asked, op)
		if op == opStat {
			return 0, packAttributes(unix.S_IFREG, 5)
		}
		return s.answer(op, body)
	})
	folder.wakers = &wakers{}
	folder.wakers.thread.Store(77)
	change := func(thread uint32) {
		in := &fuse.SetAttrIn{}
		in.Valid, in.Mode = fuse.FATTR_MODE, 0o600
		ctx := &fuse.Context{Caller: fuse.Caller{Pid: thread}}
		_ = folder.root.Setattr(ctx, nil, in, &fuse.AttrOut{})
	}
	change(77)
	if len(asked) != 1 || asked[0] != opStat {
		t.Errorf("the host was asked %v for what only wakes", asked)
	}
	change(78)
	if asked[len(asked)-1] != opSetattr {
		t.Errorf("the host was asked %v for a mode that somebody set", asked)
	}
}
