// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"net"
	"sync"
)

// Greeting returns a listener whose connections begin as a port's do, by repeating the host's identification: a vsock
// connection has nothing of an earlier host in it, but the host need not know what it came by.
func Greeting(listener net.Listener) net.Listener { return greetingListener{listener} }

type greetingListener struct{ net.Listener }

func (l greetingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &greetingConn{Conn: conn}, nil
}

// greetingConn says nothing before the host has said who it is.
type greetingConn struct {
	net.Conn
	begin   sync.Once
	failure error
	reading sync.Mutex
	pending []byte
}

// greet reads the host's first line and answers it; whatever follows the line is left for Read.
func (c *greetingConn) greet() error {
	c.begin.Do(func() {
		buffer := make([]byte, identificationLimit)
		for len(c.pending) < identificationLimit && !bytes.ContainsRune(c.pending, '\n') {
			count, err := c.Conn.Read(buffer)
			if err != nil {
				c.failure = err
				return
			}
			c.pending = append(c.pending, buffer[:count]...)
		}
		_, c.failure = c.Conn.Write(greet(c.pending))
	})
	return c.failure
}

func (c *greetingConn) Read(buffer []byte) (int, error) {
	if err := c.greet(); err != nil {
		return 0, err
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.pending) > 0 {
		count := copy(buffer, c.pending)
		c.pending = c.pending[count:]
		return count, nil
	}
	return c.Conn.Read(buffer)
}

func (c *greetingConn) Write(data []byte) (int, error) {
	if err := c.greet(); err != nil {
		return 0, err
	}
	return c.Conn.Write(data)
}
