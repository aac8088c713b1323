// SPDX-License-Identifier: Apache-2.0

// Package stream gives the control stream between host and guest the shape of a net.Listener.
//
// A virtio-serial port carries one stream and knows no connections: while no host is there a read gives end-of-file,
// and the bytes of two hosts that follow each other have no mark between them. A Port makes connections of it. It
// waits in the runtime's epoll (edge triggered, so an absent host costs no CPU), starts a connection with the
// identification string that every SSH client sends first, and ends it when the host has gone or when that string
// appears again, which means that the old host was replaced before its end was seen.
package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

const (
	portsFolder = "/sys/class/virtio-ports"
	devFolder   = "/dev"
	// The kernel hands out what a port received in pieces of at most one page.
	chunkSize = 4096
	// Finding the port: often while the driver probes, then seldom enough to cost nothing.
	firstRetry = 10 * time.Millisecond
	lastRetry  = time.Second
)

var identification = []byte("SSH-2.0-")

// RFC 4253, 4.2: an identification has at most 255 bytes with its line end.
const identificationLimit = 255

// Port listens on the virtio-serial port of one name.
type Port struct {
	name   string
	mark   []byte // with which a host begins
	ports  string // folder of sysfs that lists the ports
	dev    string
	opener func(path string) (*device, error)
	closed chan struct{}
	once   sync.Once

	mutex sync.Mutex // guards device and current
	// device is nil until found, and again after it failed.
	device  *device
	current *portConn
	next    []byte // first bytes of a host that replaced the last one; owned by Accept between connections
	take    func(settings []byte) error
}

// ListenPort returns a listener for the port that the host calls name. The port need not be there yet.
func ListenPort(name string) *Port {
	return ListenMarkedPort(name, string(identification))
}

// ListenMarkedPort is ListenPort for a stream of something else than SSH, whose hosts begin with a line of their own. What
// they say later must not look like its beginning.
func ListenMarkedPort(name, mark string) *Port {
	return &Port{
		name: name, mark: []byte(mark), ports: portsFolder, dev: devFolder, opener: openDevice,
		closed: make(chan struct{}),
	}
}

// Accept waits for the previous connection to be closed, then for a host that begins to speak SSH.
func (p *Port) Accept() (net.Conn, error) {
	p.mutex.Lock()
	previous := p.current
	p.mutex.Unlock()
	if previous != nil {
		select {
		case <-previous.done:
		case <-p.closed:
			return nil, net.ErrClosed
		}
	}
	for {
		dev, err := p.open()
		if err != nil {
			return nil, err
		}
		chunk, err := p.firstChunk(dev)
		if err == nil {
			conn := &portConn{port: p, device: dev, pending: chunk, greeting: greet(chunk), done: make(chan struct{})}
			p.mutex.Lock()
			p.current = conn
			p.mutex.Unlock()
			select {
			case <-p.closed:
				_ = conn.Close()
				return nil, net.ErrClosed
			default:
				return conn, nil
			}
		}
		p.forget(dev)
	}
}

// firstChunk drops what a dead connection left behind, up to a chunk that begins an SSH connection, and returns the
// host's whole identification line with whatever follows it.
func (p *Port) firstChunk(dev *device) ([]byte, error) {
	if err := dev.rearm(); err != nil {
		return nil, err
	}
	chunk := p.next
	p.next = nil
	buffer := make([]byte, chunkSize)
	for !bytes.HasPrefix(chunk, p.mark[:4]) {
		if p.takesSettings(chunk) {
			if err := p.answerSettings(dev, bytes.Clone(chunk)); err != nil {
				return nil, err
			}
		}
		count, err := dev.read(buffer, true)
		if err != nil {
			return nil, err
		}
		chunk = buffer[:count]
	}
	chunk = bytes.Clone(chunk)
	for len(chunk) < identificationLimit && !bytes.ContainsRune(chunk, '\n') {
		count, err := dev.read(buffer, false)
		if err != nil {
			return nil, err
		}
		if count == 0 {
			break // the host has gone; the connection's first read says so
		}
		chunk = append(chunk, buffer[:count]...)
	}
	return chunk, nil
}

// takesSettings: the port of SSH takes them, too.
func (p *Port) takesSettings(chunk []byte) bool {
	return bytes.HasPrefix(chunk, settingsMark) && bytes.Equal(p.mark, identification)
}

// greet returns what a connection sends first. QEMU and the port's queue keep what was written to a host that has gone
// and give it to the next one, which therefore waits for a line that only it can expect: its own identification.
func greet(chunk []byte) []byte {
	line, _, _ := bytes.Cut(chunk, []byte("\n"))
	line = bytes.TrimRight(line[:min(len(line), identificationLimit)], "\r")
	return slices.Concat([]byte("\r\n"+contract.GreetingPrefix), line, []byte("\r\n"))
}

// open returns the device, finding it first where need be; it gives up only when the listener is closed.
func (p *Port) open() (*device, error) {
	retry := firstRetry
	for {
		select {
		case <-p.closed:
			return nil, net.ErrClosed
		default:
		}
		p.mutex.Lock()
		dev := p.device
		p.mutex.Unlock()
		if dev != nil {
			return dev, nil
		}
		if path, found := findPort(p.ports, p.dev, p.name); found {
			if dev, err := p.opener(path); err == nil {
				p.mutex.Lock()
				p.device = dev
				p.mutex.Unlock()
				continue
			}
		}
		select {
		case <-p.closed:
		case <-time.After(retry):
		}
		retry = min(2*retry, lastRetry)
	}
}

func (p *Port) forget(dev *device) {
	dev.close()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.device == dev {
		p.device = nil
	}
}

// Close ends the listener and its connection.
func (p *Port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.mutex.Lock()
		dev := p.device
		p.mutex.Unlock()
		if dev != nil {
			p.forget(dev)
		}
	})
	return nil
}

// Addr is the port's name.
func (p *Port) Addr() net.Addr { return address(p.name) }

// findPort looks a port up by the name that the host gave it: its number depends on the order of devices.
func findPort(ports, dev, name string) (path string, found bool) {
	entries, err := os.ReadDir(ports)
	if err != nil {
		return "", false
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(ports, entry.Name(), "name"))
		if err == nil && strings.TrimSpace(string(content)) == name {
			return filepath.Join(dev, entry.Name()), true
		}
	}
	return "", false
}

// device is the opened character device. Its reads and writes go through the runtime's poller.
type device struct {
	file *os.File
	raw  syscall.RawConn
}

func openDevice(path string) (*device, error) {
	descriptor, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	return newDevice(descriptor, path)
}

// newDevice takes a non-blocking descriptor over; being that, the runtime registers it with epoll.
func newDevice(descriptor int, path string) (*device, error) {
	file := os.NewFile(uintptr(descriptor), path)
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("cannot wait for %s: %w", path, err)
	}
	return &device{file: file, raw: raw}, nil
}

// read returns what is there; 0 and no error: the host has gone. With idle it waits for a host instead.
func (d *device) read(buffer []byte, idle bool) (count int, err error) {
	waitError := d.raw.Read(func(descriptor uintptr) bool {
		for {
			count, err = unix.Read(int(descriptor), buffer)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EAGAIN):
				return false
			case err == nil && count == 0:
				// Hang-up without data: no host. The next edge is the first byte of a new one.
				return !idle
			}
			return true
		}
	})
	if waitError != nil {
		return 0, waitError
	}
	return max(count, 0), err
}

// readMany is read for a buffer that has room for many chunks: it takes what there is. It stops at a chunk of which stop
// says so, which is in the buffer after what is counted.
func (d *device) readMany(buffer []byte, stop func(chunk []byte) bool) (count, last int, err error) {
	waitError := d.raw.Read(func(descriptor uintptr) bool {
		for len(buffer)-count >= chunkSize {
			var more int
			more, err = unix.Read(int(descriptor), buffer[count:])
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case count > 0 && err != nil: // told again the next time
				err = nil
				return true
			case errors.Is(err, unix.EAGAIN):
				return false
			case err != nil || more == 0:
				return true
			case stop(buffer[count : count+more]):
				last = more
				return true
			}
			count += more
		}
		return true
	})
	if waitError != nil && count == 0 {
		return 0, 0, waitError
	}
	return count, last, err
}

// write sends all of data. A full queue is waited for: it also looks full while the host is away, until the
// connection's reader has noticed and closes it.
func (d *device) write(data []byte) (written int, err error) {
	for written < len(data) {
		var count int
		waitError := d.raw.Write(func(descriptor uintptr) bool {
			for {
				count, err = unix.Write(int(descriptor), data[written:])
				if errors.Is(err, unix.EINTR) {
					continue
				}
				return !errors.Is(err, unix.EAGAIN)
			}
		})
		if waitError != nil {
			return written, waitError
		}
		if err != nil {
			return written, err
		}
		written += count
	}
	return written, nil
}

// interrupt makes every waiting read and write return, rearm lets them wait again.
func (d *device) interrupt()   { _ = d.file.SetDeadline(time.Unix(1, 0)) }
func (d *device) rearm() error { return d.file.SetDeadline(time.Time{}) }
func (d *device) close()       { _ = d.file.Close() }

// portConn is the time that one host spends on the port.
type portConn struct {
	port   *Port
	device *device

	reading sync.Mutex
	pending []byte
	ended   bool

	writing  sync.Mutex
	greeting []byte // sent before anything else

	closing sync.Once
	gone    sync.RWMutex // held for writing while the flag changes, so that deadlines never outlive it
	closed  bool
	done    chan struct{}
}

func (c *portConn) Read(buffer []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	if c.ended {
		return 0, io.EOF
	}
	if len(c.pending) == 0 {
		chunk := buffer
		if len(buffer) < chunkSize {
			chunk = make([]byte, chunkSize)
		}
		count, last, err := c.device.readMany(chunk, c.begins)
		if err != nil {
			if c.isClosed() {
				return 0, net.ErrClosed
			}
			return 0, err
		}
		if last > 0 {
			c.port.next = bytes.Clone(chunk[count : count+last])
		}
		if last > 0 || count == 0 {
			c.end()
		}
		if count == 0 {
			return 0, io.EOF
		}
		if len(buffer) >= chunkSize {
			return count, nil
		}
		c.pending = chunk[:count]
	}
	count := copy(buffer, c.pending)
	c.pending = c.pending[count:]
	return count, nil
}

// begins says whether somebody else has taken this host's place: what was read is his first.
func (c *portConn) begins(chunk []byte) bool {
	return bytes.HasPrefix(chunk, c.port.mark) || c.port.takesSettings(chunk)
}

// end notes that the host has gone. A writer that waits for it must not wait on: while it does, the SSH library cannot
// take the connection down.
func (c *portConn) end() {
	c.ended = true
	_ = c.device.file.SetWriteDeadline(time.Unix(1, 0))
}

// Write sends to the host, to whom the greeting goes first.
func (c *portConn) Write(data []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	if c.greeting != nil {
		if _, err := c.device.write(c.greeting); err != nil {
			return 0, err
		}
		c.greeting = nil
	}
	return c.device.write(data)
}

// Close ends this connection and leaves the port open for the next.
func (c *portConn) Close() error {
	c.closing.Do(func() {
		c.gone.Lock()
		c.closed = true
		c.device.interrupt()
		c.gone.Unlock()
		// Once both locks were free, nobody of this connection touches the port any more.
		c.reading.Lock()
		c.writing.Lock()
		c.pending = nil
		c.writing.Unlock()
		c.reading.Unlock()
		close(c.done)
	})
	return nil
}

func (c *portConn) isClosed() bool {
	c.gone.RLock()
	defer c.gone.RUnlock()
	return c.closed
}

func (c *portConn) setDeadline(set func(time.Time) error, at time.Time) error {
	c.gone.RLock()
	defer c.gone.RUnlock()
	if c.closed {
		return net.ErrClosed
	}
	return set(at)
}

func (c *portConn) SetDeadline(at time.Time) error {
	return c.setDeadline(c.device.file.SetDeadline, at)
}
func (c *portConn) SetReadDeadline(at time.Time) error {
	return c.setDeadline(c.device.file.SetReadDeadline, at)
}
func (c *portConn) SetWriteDeadline(at time.Time) error {
	return c.setDeadline(c.device.file.SetWriteDeadline, at)
}
func (c *portConn) LocalAddr() net.Addr  { return address(c.port.name) }
func (c *portConn) RemoteAddr() net.Addr { return address("host") }

type address string

func (address) Network() string  { return "virtio-serial" }
func (a address) String() string { return string(a) }
