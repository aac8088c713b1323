// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const shared = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP

// forkInside forks in the namespaces of another process. Namespaces are a thread's: one enters them for this fork and
// ends, since there is no way back.
func forkInside(member *os.File, fork func() (int, error)) (pid int, err error) {
	if member == nil {
		return fork()
	}
	forked := make(chan struct{})
	go func() {
		defer close(forked)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		// A mount namespace is entered by a thread that shares its working folder with no other.
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		if err = unix.Setns(int(member.Fd()), shared); err == nil {
			pid, err = fork()
		}
	}()
	<-forked
	return pid, err
}
