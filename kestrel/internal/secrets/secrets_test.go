// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/vsock"
)

// fakeListener hands out connections that claim to come from a vsock address.
type fakeListener struct{ net.Listener }

type fakeConn struct{ net.Conn }

func (fakeConn) RemoteAddr() net.Addr { return vsock.Addr{CID: 1, Port: 4711} }

func (l fakeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fakeConn{conn}, nil
}

func newPorts(t *testing.T, attached []contract.SecretPort, uid uint32, uidError error) (*Ports, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	return New(Options{
		Attached: attached,
		listen: func(uint32) (net.Listener, error) {
			inner, err := net.Listen("unix", path)
			return fakeListener{inner}, err
		},
		findID: func(peer vsock.Addr, port uint32) (uint32, error) {
			if peer.Port != 4711 || port != 9000 {
				t.Errorf("asked for %v at %d", peer, port)
			}
			return uid, uidError
		},
	}), path
}

func TestWaitReturnsWhenThePortOpens(t *testing.T) {
	ports, _ := newPorts(t, []contract.SecretPort{{Port: 9000}}, 0, nil)
	waiting := make(chan error)
	go func() { waiting <- ports.Wait(context.Background(), HostCID, 9000) }()
	if ports.Ready(9000) {
		t.Error("ready before the host has asked for the port")
	}
	listener, err := ports.Listen(9000)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	if !ports.Ready(9000) {
		t.Error("not ready while open")
	}
	_ = listener.Close()
	if ports.Ready(9000) {
		t.Error("ready after the host has gone")
	}
}

func TestWaitEnds(t *testing.T) {
	ports, _ := newPorts(t, []contract.SecretPort{{Port: 9000}}, 0, nil)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := ports.Wait(ended, HostCID, 9000); err == nil || !strings.Contains(err.Error(), "not open yet") {
		t.Errorf("after the end of the context: %v", err)
	}
	if err := ports.Wait(context.Background(), HostCID, 9001); err == nil || !strings.Contains(err.Error(), "no secret") {
		t.Errorf("with nothing attached: %v", err)
	}
	if err := ports.Wait(context.Background(), 77, 9001); err != nil {
		t.Errorf("another CID: %v", err)
	}
}

func TestOnlyTheNamedUserMayAsk(t *testing.T) {
	wanted := uint32(33)
	for name, testCase := range map[string]struct {
		uid     uint32
		err     error
		allowed bool
	}{
		"the user":       {33, nil, true},
		"another":        {1000, nil, false},
		"root":           {0, nil, false},
		"cannot be told": {33, errors.New("gone"), false},
	} {
		t.Run(name, func(t *testing.T) {
			ports, path := newPorts(t, []contract.SecretPort{{Port: 9000, UID: &wanted}}, testCase.uid, testCase.err)
			listener, err := ports.Listen(9000)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				if conn, err := listener.Accept(); err == nil {
					_, _ = conn.Write([]byte("value"))
					_ = conn.Close()
				}
			}()
			client, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			answer := make([]byte, 8)
			count, _ := client.Read(answer)
			if got := string(answer[:count]) == "value"; got != testCase.allowed {
				t.Errorf("answered %q", answer[:count])
			}
		})
	}
}
