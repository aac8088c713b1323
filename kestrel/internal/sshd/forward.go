// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/passwd"
)

const (
	dialTimeout = 10 * time.Second
	// Ports below are for root, as everywhere.
	firstUserPort = 1024
)

// tcpAddress is the payload of direct-tcpip and forwarded-tcpip (RFC 4254, section 7.2).
type tcpAddress struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

func (c *connection) serveDirectTCP(newChannel ssh.NewChannel) {
	var target tcpAddress
	if ssh.Unmarshal(newChannel.ExtraData(), &target) != nil || target.Port > 65535 {
		_ = newChannel.Reject(ssh.ConnectionFailed, "malformed address")
		return
	}
	conn, err := c.dialTCP(target.Host, target.Port)
	if err != nil {
		_ = newChannel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	joinAccepted(newChannel, conn)
}

// dialTCP tries the addresses of a host in turn. "localhost" is both loopback addresses, whatever /etc/hosts says.
func (c *connection) dialTCP(host string, port uint32) (net.Conn, error) {
	hosts := []string{host}
	switch host {
	case "workload":
		hosts = c.server.config.WorkloadHosts()
	case "localhost", "":
		hosts = []string{"127.0.0.1", "::1"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var dialer net.Dialer
	var first error
	for _, address := range hosts {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (c *connection) serveDirectUnix(newChannel ssh.NewChannel) {
	var target struct {
		Path         string
		Reserved     string
		ReservedPort uint32
	}
	if ssh.Unmarshal(newChannel.ExtraData(), &target) != nil {
		_ = newChannel.Reject(ssh.ConnectionFailed, "malformed address")
		return
	}
	var conn net.Conn
	err := asAccount(c.account, func() (err error) {
		conn, err = net.DialTimeout("unix", target.Path, dialTimeout)
		return err
	})
	if err != nil {
		_ = newChannel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	joinAccepted(newChannel, conn)
}

func (c *connection) startTCPForward(payload []byte) ([]byte, error) {
	var wanted struct {
		Host string
		Port uint32
	}
	if err := ssh.Unmarshal(payload, &wanted); err != nil {
		return nil, err
	}
	var listener net.Listener
	var err error
	switch {
	case c.server.config.Trusted && wanted.Host == contract.ForwardBindAddress:
		if c.server.config.ListenSecret == nil {
			return nil, errors.New("this guest has no vsock loopback")
		}
		listener, err = c.server.config.ListenSecret(wanted.Port)
	case wanted.Port > 65535:
		return nil, fmt.Errorf("there is no TCP port %d", wanted.Port)
	case c.account.UID != 0 && wanted.Port != 0 && wanted.Port < firstUserPort:
		return nil, fmt.Errorf("port %d is for root only", wanted.Port)
	default:
		host := wanted.Host
		switch host {
		case "localhost":
			host = "127.0.0.1"
		case "*":
			host = ""
		}
		listener, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(wanted.Port))))
	}
	if err != nil {
		return nil, err
	}
	port := wanted.Port
	var reply []byte
	if bound, ok := listener.Addr().(*net.TCPAddr); ok && port == 0 {
		port = uint32(bound.Port)
		reply = ssh.Marshal(&struct{ Port uint32 }{port})
	}
	// Both sides know a forwarding by the address as it was asked for.
	err = c.accept(tcpForwardKey(wanted.Host, port), listener, "forwarded-tcpip", func(conn net.Conn) []byte {
		origin := tcpAddress{Host: wanted.Host, Port: port}
		if peer, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			origin.OriginHost, origin.OriginPort = peer.IP.String(), uint32(peer.Port)
		} else {
			origin.OriginHost = conn.RemoteAddr().String()
		}
		return ssh.Marshal(&origin)
	})
	return reply, err
}

func (c *connection) cancelTCPForward(payload []byte) error {
	var wanted struct {
		Host string
		Port uint32
	}
	if err := ssh.Unmarshal(payload, &wanted); err != nil {
		return err
	}
	return c.cancel(tcpForwardKey(wanted.Host, wanted.Port))
}

func tcpForwardKey(host string, port uint32) string { return fmt.Sprintf("tcp:%s:%d", host, port) }

func (c *connection) startUnixForward(payload []byte) error {
	var wanted struct{ Path string }
	if err := ssh.Unmarshal(payload, &wanted); err != nil {
		return err
	}
	var listener net.Listener
	err := asAccount(c.account, func() (err error) {
		listener, err = net.Listen("unix", wanted.Path)
		if err == nil {
			err = os.Chmod(wanted.Path, 0o600)
		}
		return err
	})
	if err != nil {
		if listener != nil {
			_ = listener.Close()
		}
		return err
	}
	return c.accept("unix:"+wanted.Path, listener, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
		return ssh.Marshal(&struct{ Path, Reserved string }{Path: wanted.Path})
	})
}

func (c *connection) cancelUnixForward(payload []byte) error {
	var wanted struct{ Path string }
	if err := ssh.Unmarshal(payload, &wanted); err != nil {
		return err
	}
	return c.cancel("unix:" + wanted.Path)
}

// accept opens a channel to the client for every connection that the listener gets.
func (c *connection) accept(key string, listener net.Listener, channelType string, extra func(net.Conn) []byte) error {
	c.mutex.Lock()
	_, taken := c.forward[key]
	ended := c.forward == nil
	if !taken && !ended {
		c.forward[key] = listener
	}
	c.mutex.Unlock()
	if taken || ended {
		_ = listener.Close()
		return fmt.Errorf("%s is forwarded already", key)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				c.server.config.Logf("ssh: cannot accept for %s: %v", key, err)
				time.Sleep(acceptPause)
				continue
			}
			go func() {
				memory.begin()
				defer memory.end()
				c.joinOpened(channelType, extra(conn), conn)
			}()
		}
	}()
	return nil
}

func (c *connection) cancel(key string) error {
	c.mutex.Lock()
	listener, ok := c.forward[key]
	delete(c.forward, key)
	c.mutex.Unlock()
	if !ok {
		return fmt.Errorf("%s is not forwarded", key)
	}
	return listener.Close()
}

// joinOpened opens a channel to the client for one connection of the guest's.
func (c *connection) joinOpened(channelType string, extra []byte, conn net.Conn) {
	channel, requests, err := c.conn.OpenChannel(channelType, extra)
	if err != nil {
		_ = conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	join(channel, conn)
}

func joinAccepted(newChannel ssh.NewChannel, conn net.Conn) {
	channel, requests, err := newChannel.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	join(channel, conn)
}

// join copies both ways. Each side's end-of-file is passed on; an error on either ends both.
func join(channel ssh.Channel, conn net.Conn) {
	var copying sync.WaitGroup
	closeBoth := func() {
		_ = channel.Close()
		_ = conn.Close()
	}
	copying.Go(func() {
		if !copyStream(channel, conn) || channel.CloseWrite() != nil {
			closeBoth()
		}
	})
	copying.Go(func() {
		if !copyStream(conn, channel) {
			closeBoth()
			return
		}
		half, ok := conn.(interface{ CloseWrite() error })
		if !ok || half.CloseWrite() != nil {
			closeBoth()
		}
	})
	copying.Wait()
	closeBoth()
}

// copyStream copies until end-of-file (true) or an error. Not io.Copy: its buffer is twice as large, and it would
// take the splice path of sockets, which an SSH channel cannot have.
func copyStream(to io.Writer, from io.Reader) bool {
	buffer := make([]byte, copyBytes)
	for {
		count, err := from.Read(buffer)
		if count > 0 {
			if _, err := to.Write(buffer[:count]); err != nil {
				return false
			}
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// asAccount runs a function with the file system rights of an account. These belong to a thread (setfsuid(2)), so
// the function gets one of its own, which ends with it.
func asAccount(account passwd.Account, function func() error) error {
	if account.UID == uint32(os.Getuid()) {
		return function()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread together with the goroutine
		result <- func() error {
			groups := account.Groups
			var pointer unsafe.Pointer
			if len(groups) > 0 {
				pointer = unsafe.Pointer(&groups[0])
			}
			// The raw call changes this thread only; syscall.Setgroups would change all.
			if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(pointer), 0); errno != 0 {
				return fmt.Errorf("cannot act as %s: %w", account.Name, errno)
			}
			if err := unix.Setfsgid(int(account.GID)); err != nil {
				return fmt.Errorf("cannot act as %s: %w", account.Name, err)
			}
			if err := unix.Setfsuid(int(account.UID)); err != nil {
				return fmt.Errorf("cannot act as %s: %w", account.Name, err)
			}
			return function()
		}()
	}()
	return <-result
}
