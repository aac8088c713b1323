// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// atOnce is more than a connection within the machine takes where somebody accepts it.
const atOnce = 100 * time.Millisecond

// connectAtOnce connects to a port of loopback by bare system calls. While a workload starts it is refused again and
// again, and under emulation package net's way there is a tenth of a second of code that runs for the first time. Any
// other error than ECONNREFUSED says nothing.
func connectAtOnce(port int) (net.Conn, error) {
	first := unix.Sockaddr(&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	connection, err := connect(unix.AF_INET, first)
	if err != unix.ECONNREFUSED {
		return connection, err
	}
	second := unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}})
	if connection, other := connect(unix.AF_INET6, second); other == nil {
		return connection, nil
	}
	return nil, err
}

func connect(family int, address unix.Sockaddr) (net.Conn, error) {
	descriptor, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	patience := unix.NsecToTimeval(int64(atOnce))
	if err = unix.SetsockoptTimeval(descriptor, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err == nil {
		err = unix.Connect(descriptor, address)
	}
	if err != nil {
		_ = unix.Close(descriptor)
		return nil, err
	}
	file := os.NewFile(uintptr(descriptor), "")
	defer func() { _ = file.Close() }()
	return net.FileConn(file)
}
