// SPDX-License-Identifier: Apache-2.0

// Package sshd is the agent's SSH server, on any net.Conn.
//
// One implementation serves three doors, which differ only in their Config: the control stream from volantd (Trusted,
// with the control subsystem), the socket for people's sessions and the network. It sits directly on x/crypto/ssh:
// server libraries above it know neither UNIX-socket forwarding nor a connection whose channels the agent opens.
// RFC 4254 names the requests; OpenSSH's PROTOCOL file those that end in @openssh.com.
package sshd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/volantvm/volant/kestrel/internal/passwd"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	handshakeTimeout = 30 * time.Second
	// Strangers who have not shown a key yet, at once.
	maxHandshakes = 32
	// After a failed accept (out of descriptors, say): later is better than never.
	acceptPause = time.Second
)

// HostKey is the key by which clients know the guest. A copy of a guest gets another, which counts from the next
// connection on.
type HostKey struct{ signer atomic.Pointer[ssh.Signer] }

// NewHostKey holds a key.
func NewHostKey(signer ssh.Signer) *HostKey {
	key := &HostKey{}
	key.Set(signer)
	return key
}

// Set replaces the key.
func (k *HostKey) Set(signer ssh.Signer) { k.signer.Store(&signer) }

func (k *HostKey) get() ssh.Signer { return *k.signer.Load() }

// Public is the public half in the form of authorized_keys.
func (k *HostKey) Public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.get().PublicKey())))
}

// Workload is the program that a guest exists for, where people may be joined to its input and output.
type Workload interface {
	Attach(stdin io.Reader, stdout, stderr io.Writer, gone <-chan struct{}) (reaper.Status, error)
	Resize(columns, rows uint32) error
}

// Config is what a door needs. Reaper, HostKey and Accept must be given.
type Config struct {
	Reaper  *reaper.Reaper
	HostKey *HostKey
	// Accept says whether a key may log in as an account.
	Accept func(account passwd.Account, key ssh.PublicKey) bool
	// Trusted: the peer is volantd. Every login name means root, sessions may choose their user by KESTREL_USER and
	// run by /bin/sh whatever that user's shell is.
	Trusted bool
	// Subsystems besides sftp; a handler returns when the stream ends or it has nothing more to say.
	Subsystems map[string]func(io.ReadWriteCloser)
	// Workload is what clients of the subsystem "attach" are joined to; nil: nothing.
	Workload Workload
	// Environment is the VM's environment, NAME=value, which every session starts from.
	Environment func() []string
	// Place is a process whose namespaces sessions enter (reaper.Command.Inside); nil, or nil returned: none.
	Place func() *os.File
	// WorkloadHosts are the addresses that the host name "workload" stands for, tried in order.
	WorkloadHosts func() []string
	// ListenSecret opens a port of CID 2 for a forwarding with bind address "vsock"; nil: not offered.
	ListenSecret func(port uint32) (net.Listener, error)
	// Root is where the guest's /etc is: empty but in tests.
	Root string
	// RuntimeFolder takes the sockets of forwarded agents.
	RuntimeFolder string
	// SFTPCommand serves SFTP on its stdin and stdout; default: this program with SFTPServerArgument.
	SFTPCommand []string
	Logf        func(format string, arguments ...any)
}

// Server serves connections until it is closed.
type Server struct {
	config     Config
	handshakes chan struct{}

	mutex       sync.Mutex
	closed      bool
	connections map[net.Conn]struct{}
	listeners   map[net.Listener]struct{}
}

// New returns a server with the defaults filled in.
func New(config Config) *Server {
	if config.Environment == nil {
		config.Environment = func() []string { return nil }
	}
	if config.Place == nil {
		config.Place = func() *os.File { return nil }
	}
	if config.WorkloadHosts == nil {
		config.WorkloadHosts = func() []string { return []string{"127.0.0.1", "::1"} }
	}
	if config.RuntimeFolder == "" {
		config.RuntimeFolder = "/run/kestrel"
	}
	if len(config.SFTPCommand) == 0 {
		config.SFTPCommand = []string{"/proc/self/exe", SFTPServerArgument}
	}
	if config.Logf == nil {
		config.Logf = func(string, ...any) {}
	}
	return &Server{
		config:      config,
		handshakes:  make(chan struct{}, maxHandshakes),
		connections: make(map[net.Conn]struct{}),
		listeners:   make(map[net.Listener]struct{}),
	}
}

// Serve accepts connections until the listener or the server is closed.
func (s *Server) Serve(listener net.Listener) error {
	if !s.noteListener(listener) {
		_ = listener.Close()
		return net.ErrClosed
	}
	defer s.forgetListener(listener)
	for {
		conn, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			s.config.Logf("ssh: cannot accept on %s: %v", listener.Addr(), err)
			time.Sleep(acceptPause)
			continue
		}
		go s.ServeConn(conn)
	}
}

// Close ends every listener and connection.
func (s *Server) Close() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closed = true
	for listener := range s.listeners {
		_ = listener.Close()
	}
	for conn := range s.connections {
		go func() { _ = conn.Close() }()
	}
	return nil
}

// ServeConn serves one connection and returns when it has ended.
func (s *Server) ServeConn(conn net.Conn) {
	if !s.note(conn) {
		_ = conn.Close()
		return
	}
	defer s.forget(conn)
	s.handshakes <- struct{}{}
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	account := passwd.Account{}
	server, channels, requests, err := ssh.NewServerConn(conn, s.sshConfig(&account))
	<-s.handshakes
	if err != nil {
		if !errors.Is(err, io.EOF) {
			s.config.Logf("ssh: %s: handshake failed: %v", conn.RemoteAddr(), err)
		}
		return
	}
	_ = conn.SetDeadline(time.Time{})
	connection := &connection{
		server:  s,
		conn:    server,
		account: account,
		forward: make(map[string]io.Closer),
	}
	connection.serve(channels, requests)
}

func (s *Server) sshConfig(account *passwd.Account) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-kestrel",
		MaxAuthTries:  20, // an agent may offer many keys before the right one
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			name := meta.User()
			if s.config.Trusted {
				name = "root"
			}
			found, err := passwd.Lookup(s.config.Root, name)
			if err != nil {
				return nil, err
			}
			if !s.config.Accept(found, key) {
				return nil, fmt.Errorf("key %s is not authorized for %s", ssh.FingerprintSHA256(key), found.Name)
			}
			*account = found
			return &ssh.Permissions{}, nil
		},
	}
	config.AddHostKey(s.config.HostKey.get())
	return config
}

func (s *Server) noteListener(listener net.Listener) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.closed {
		s.listeners[listener] = struct{}{}
	}
	return !s.closed
}

func (s *Server) forgetListener(listener net.Listener) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.listeners, listener)
	_ = listener.Close()
}

func (s *Server) note(conn net.Conn) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.closed {
		s.connections[conn] = struct{}{}
	}
	return !s.closed
}

func (s *Server) forget(conn net.Conn) {
	_ = conn.Close()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.connections, conn)
}

// connection is one authenticated peer.
type connection struct {
	server  *Server
	conn    *ssh.ServerConn
	account passwd.Account

	mutex   sync.Mutex
	forward map[string]io.Closer // remote forwardings by what was asked; nil once the connection has ended
}

func (c *connection) serve(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	go c.serveGlobalRequests(requests)
	for channel := range channels {
		go func() {
			memory.begin()
			defer memory.end()
			c.serveChannel(channel)
		}()
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, listener := range c.forward {
		_ = listener.Close()
	}
	c.forward = nil
}

func (c *connection) serveChannel(channel ssh.NewChannel) {
	switch channel.ChannelType() {
	case "session":
		c.serveSession(channel)
	case "direct-tcpip":
		c.serveDirectTCP(channel)
	case "direct-streamlocal@openssh.com":
		c.serveDirectUnix(channel)
	default:
		_ = channel.Reject(ssh.UnknownChannelType, "kestrel knows no channels of type "+channel.ChannelType())
	}
}

func (c *connection) serveGlobalRequests(requests <-chan *ssh.Request) {
	for request := range requests {
		var reply []byte
		var err error
		switch request.Type {
		case "tcpip-forward":
			reply, err = c.startTCPForward(request.Payload)
		case "cancel-tcpip-forward":
			err = c.cancelTCPForward(request.Payload)
		case "streamlocal-forward@openssh.com":
			err = c.startUnixForward(request.Payload)
		case "cancel-streamlocal-forward@openssh.com":
			err = c.cancelUnixForward(request.Payload)
		default: // keepalive@openssh.com among them: the refusal is the sign of life
			err = errUnknownRequest
		}
		if err != nil && !errors.Is(err, errUnknownRequest) {
			c.server.config.Logf("ssh: %s refused: %v", request.Type, err)
		}
		if request.WantReply {
			_ = request.Reply(err == nil, reply)
		}
	}
}

var errUnknownRequest = errors.New("unknown request")
