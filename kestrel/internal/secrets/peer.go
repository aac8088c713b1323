// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/vsock"
)

// findPeerUID finds whose socket is at the other end of a loopback connection to a port.
//
// vsock has no SO_PEERCRED. But the peer is a socket of this guest, so it is among the descriptors of some process:
// pidfd_getfd(2) borrows each socket for a look at its addresses, and its inode belongs to the user who made it,
// wherever it was passed since. Two users' sockets that both look right are nobody's: the caller then refuses.
func findPeerUID(peer vsock.Addr, port uint32) (uint32, error) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("cannot tell whose it is: %w", err)
	}
	found := false
	var uid uint32
	for _, entry := range processes {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		for _, owner := range ownersInProcess(pid, peer.Port, port) {
			if found && owner != uid {
				return 0, errors.New("cannot tell whose it is: two users have a socket with this address")
			}
			found, uid = true, owner
		}
	}
	if !found {
		return 0, errors.New("cannot tell whose it is: no process has a socket with this address")
	}
	return uid, nil
}

// ownersInProcess lists the owners of a process's vsock sockets that are bound to one port and connected to another.
// What cannot be looked at (the process may end at any time) is left out.
func ownersInProcess(pid int, localPort, remotePort uint32) []uint32 {
	folder := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	descriptors, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	process := -1
	defer func() {
		if process >= 0 {
			_ = unix.Close(process)
		}
	}()
	var owners []uint32
	for _, entry := range descriptors {
		target, err := os.Readlink(filepath.Join(folder, entry.Name()))
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if process < 0 {
			if process, err = unix.PidfdOpen(pid, 0); err != nil {
				return owners
			}
		}
		borrowed, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			continue
		}
		if owner, ok := ownerOf(borrowed, localPort, remotePort); ok {
			owners = append(owners, owner)
		}
		_ = unix.Close(borrowed)
	}
	return owners
}

func ownerOf(socket int, localPort, remotePort uint32) (uint32, bool) {
	local, err := unix.Getsockname(socket)
	if err != nil {
		return 0, false
	}
	remote, err := unix.Getpeername(socket)
	if err != nil {
		return 0, false
	}
	near, isNear := local.(*unix.SockaddrVM)
	far, isFar := remote.(*unix.SockaddrVM)
	if !isNear || !isFar || near.Port != localPort || far.Port != remotePort {
		return 0, false
	}
	var status unix.Stat_t
	if unix.Fstat(socket, &status) != nil {
		return 0, false
	}
	return status.Uid, true
}
