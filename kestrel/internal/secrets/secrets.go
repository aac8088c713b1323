// SPDX-License-Identifier: Apache-2.0

// Package secrets opens the vsock ports of CID 2 on which the host answers.
//
// With vsock_loopback loaded and no guest-to-host transport, Linux routes CID 2 to the guest itself. volantd asks for
// a port by a remote forwarding of the control connection; what connects to it comes out at volantd. A port is open
// exactly while such a forwarding stands: with no secret attached, or no host there, a connection is refused.
package secrets

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/vsock"
)

// HostCID is where the guide has processes look for the host (VMADDR_CID_HOST).
const HostCID = 2

// Options of New.
type Options struct {
	// Attached are the ports that guest.json promises, with the users they are for.
	Attached []contract.SecretPort
	// AnsweredByHost: CID 2 leads out of this guest, and the host answers by itself.
	AnsweredByHost bool
	Logf           func(format string, arguments ...any)

	listen func(port uint32) (net.Listener, error)
	findID func(peer vsock.Addr, port uint32) (uid uint32, err error)
}

// Ports are the open ports of CID 2.
type Ports struct {
	options Options
	users   map[uint32]*uint32 // by attached port; nil: everybody

	mutex   sync.Mutex
	open    map[uint32]bool
	changed chan struct{} // closed and replaced when a port opens
}

// New returns the ports of a guest, none of them open.
func New(options Options) *Ports {
	if options.Logf == nil {
		options.Logf = func(string, ...any) {}
	}
	if options.listen == nil {
		options.listen = func(port uint32) (net.Listener, error) { return vsock.Listen(port) }
	}
	if options.findID == nil {
		options.findID = findPeerUID
	}
	ports := &Ports{
		options: options,
		users:   make(map[uint32]*uint32),
		open:    make(map[uint32]bool),
		changed: make(chan struct{}),
	}
	for _, attached := range options.Attached {
		ports.users[attached.Port] = attached.UID
	}
	return ports
}

// Listen opens a port; it serves sshd.Config.ListenSecret. Whoever may not connect is dropped before Accept returns.
func (p *Ports) Listen(port uint32) (net.Listener, error) {
	inner, err := p.options.listen(port)
	if err != nil {
		return nil, err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.open[port] = true
	close(p.changed)
	p.changed = make(chan struct{})
	return &listener{Listener: inner, ports: p, port: port}, nil
}

// Ready says whether a process that connects to the port now is answered.
func (p *Ports) Ready(port uint32) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.options.AnsweredByHost || p.open[port]
}

// Wait returns when a process may connect to an address; it serves supervise.Options.WaitForVsock. An address that
// is not this host's business is taken to be open; a port to which no secret is attached never will be.
func (p *Ports) Wait(ctx context.Context, cid, port uint32) error {
	if cid != HostCID || p.options.AnsweredByHost {
		return nil
	}
	for {
		p.mutex.Lock()
		open, changed := p.open[port], p.changed
		p.mutex.Unlock()
		if open {
			return nil
		}
		if _, attached := p.users[port]; !attached {
			return fmt.Errorf("vsock port %d is closed: no secret is attached to it (volar vms create --secret NAME)", port)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("vsock port %d is not open yet: the host has not connected", port)
		}
	}
}

// listener is an open port; closing it closes the port.
type listener struct {
	net.Listener
	ports *Ports
	port  uint32
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if err := l.check(conn); err != nil {
			l.ports.options.Logf("secrets: refused a connection to vsock port %d: %v", l.port, err)
			_ = conn.Close()
			continue
		}
		return conn, nil
	}
}

// check fails for a peer that is another user's, or nobody's that can be found.
func (l *listener) check(conn net.Conn) error {
	wanted := l.ports.users[l.port]
	if wanted == nil {
		return nil
	}
	peer, ok := conn.RemoteAddr().(vsock.Addr)
	if !ok {
		return fmt.Errorf("its address %s is none of vsock", conn.RemoteAddr())
	}
	uid, err := l.ports.options.findID(peer, l.port)
	if err != nil {
		return err
	}
	if uid != *wanted {
		return fmt.Errorf("it comes from user %d and only %d may ask", uid, *wanted)
	}
	return nil
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.ports.mutex.Lock()
		defer l.ports.mutex.Unlock()
		delete(l.ports.open, l.port)
	})
	return l.Listener.Close()
}
