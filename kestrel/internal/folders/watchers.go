// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// watchersTime is for how long an answer holds to the question whether anybody watches.
const watchersTime = time.Second

// wakers wake who watches files of a folder by inotify(7), which knows of the guest's own changes alone: each file that has
// changed on the host is given the mode that it has. The kernel tells of that (IN_ATTRIB), and asks us, who do nothing.
type wakers struct {
	view      *view
	processes string // what is known of them: /proc
	thread    atomic.Int32

	mutex   sync.Mutex
	pending map[string]bool
	more    chan struct{}

	isWatched bool
	askedAt   time.Time
}

func newWakers(view *view) *wakers {
	made := &wakers{view: view, processes: "/proc", pending: map[string]bool{}, more: make(chan struct{}, 1)}
	go made.run()
	return made
}

// isOurs says whether a request comes from here.
func (w *wakers) isOurs(thread uint32) bool { return w != nil && w.thread.Load() == int32(thread) }

// wake never waits. What is not there any more wakes who watches its folder.
func (w *wakers) wake(path string) {
	if w == nil {
		return
	}
	w.mutex.Lock()
	w.pending[path] = true
	w.mutex.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *wakers) run() {
	runtime.LockOSThread()
	w.thread.Store(int32(unix.Gettid()))
	for range w.more {
		w.mutex.Lock()
		paths := w.pending
		w.pending = map[string]bool{}
		w.mutex.Unlock()
		if !w.anybodyWatches() {
			continue
		}
		for path := range paths {
			if w.touch(path) == unix.ENOENT && path != "" {
				_ = w.touch(strings.TrimPrefix(filepath.Dir("/"+path), "/"))
			}
		}
	}
}

func (w *wakers) touch(path string) error {
	descriptor, err := w.view.open(path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(descriptor)
	var status unix.Stat_t
	if err := unix.Fstat(descriptor, &status); err != nil {
		return err
	}
	if kind := status.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil // a link has no mode, and nobody is to be led elsewhere by one
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", descriptor), status.Mode&0o7777)
}

func (w *wakers) anybodyWatches() bool {
	if time.Since(w.askedAt) > watchersTime {
		w.isWatched, w.askedAt = hasWatcher(w.processes, w.view.device), time.Now()
	}
	return w.isWatched
}

// hasWatcher looks for a process that watches something on a device (proc_pid_fdinfo(5)).
func hasWatcher(processes string, device uint64) bool {
	wanted := fmt.Sprintf(" sdev:%x ", device)
	descriptors, _ := filepath.Glob(filepath.Join(processes, "[0-9]*", "fd", "*"))
	for _, descriptor := range descriptors {
		if target, err := os.Readlink(descriptor); err != nil || target != "anon_inode:inotify" {
			continue
		}
		process := filepath.Dir(filepath.Dir(descriptor))
		data, err := os.ReadFile(filepath.Join(process, "fdinfo", filepath.Base(descriptor)))
		if err == nil && strings.Contains(string(data), wanted) {
			return true
		}
	}
	return false
}
