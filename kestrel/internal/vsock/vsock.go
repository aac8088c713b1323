// SPDX-License-Identifier: Apache-2.0

// Package vsock is the part of AF_VSOCK that the agent needs: listeners whose connections are net.Conns.
//
// The standard library knows no vsock addresses, but an os.File of a non-blocking socket waits in the runtime's
// poller and has deadlines, which is all that a net.Conn is.
package vsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// AnyCID is the address of a listener that answers on every CID of this machine (VMADDR_CID_ANY).
const AnyCID = unix.VMADDR_CID_ANY

// Addr is a vsock address.
type Addr struct {
	CID  uint32
	Port uint32
}

// Network is "vsock".
func (Addr) Network() string  { return "vsock" }
func (a Addr) String() string { return fmt.Sprintf("vsock:%d:%d", a.CID, a.Port) }

// Listener accepts vsock connections.
type Listener struct {
	file *os.File
	raw  syscall.RawConn
	addr Addr
}

// Listen listens on a port of every CID. It fails with an error that says so where the kernel has no vsock.
func Listen(port uint32) (*Listener, error) {
	addr := Addr{CID: AnyCID, Port: port}
	descriptor, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: this kernel has no vsock: %w", addr, err)
	}
	if err = unix.Bind(descriptor, &unix.SockaddrVM{CID: addr.CID, Port: port}); err == nil {
		err = unix.Listen(descriptor, 128)
	}
	if err != nil {
		_ = unix.Close(descriptor)
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	file := os.NewFile(uintptr(descriptor), addr.String())
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return &Listener{file: file, raw: raw, addr: addr}, nil
}

// Accept waits for a connection; its RemoteAddr is an Addr.
func (l *Listener) Accept() (net.Conn, error) {
	var descriptor int
	var peer unix.Sockaddr
	var err error
	waitError := l.raw.Read(func(listening uintptr) bool {
		descriptor, peer, err = unix.Accept4(int(listening), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	if waitError != nil {
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("cannot accept on %s: %w", l.addr, err)
	}
	remote := Addr{}
	if sockaddr, ok := peer.(*unix.SockaddrVM); ok {
		remote = Addr{CID: sockaddr.CID, Port: sockaddr.Port}
	}
	file := os.NewFile(uintptr(descriptor), remote.String())
	return &Conn{File: file, local: l.addr, remote: remote}, nil
}

// Close ends the listener; a waiting Accept returns.
func (l *Listener) Close() error { return l.file.Close() }

// Addr is where the listener listens.
func (l *Listener) Addr() net.Addr { return l.addr }

// Dial connects to a port; it waits for as long as the kernel does.
func Dial(cid, port uint32) (*Conn, error) {
	remote := Addr{CID: cid, Port: port}
	descriptor, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: this kernel has no vsock: %w", remote, err)
	}
	if err := unix.Connect(descriptor, &unix.SockaddrVM{CID: cid, Port: port}); err != nil {
		_ = unix.Close(descriptor)
		return nil, fmt.Errorf("cannot connect to %s: %w", remote, err)
	}
	return &Conn{File: os.NewFile(uintptr(descriptor), remote.String()), remote: remote}, nil
}

// Conn is one vsock connection.
type Conn struct {
	*os.File
	local, remote Addr
}

// CloseWrite tells the peer that no more data comes.
func (c *Conn) CloseWrite() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var shutdownError error
	if err := raw.Control(func(descriptor uintptr) {
		shutdownError = unix.Shutdown(int(descriptor), unix.SHUT_WR)
	}); err != nil {
		return err
	}
	return shutdownError
}

// LocalAddr is the listener's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer's address, an Addr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }
