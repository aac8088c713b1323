// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"bufio"
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// Requests at a time; whoever comes later waits for its turn.
	mostRequests = 64
	// How long operations wait for a host that is not there before they fail, and for an answer of one that is.
	awayPatience   = 60 * time.Second
	answerPatience = 2 * time.Minute
)

// Host asks the file server of the host over whatever connection there is. Where one breaks, requests wait and are sent
// again over the next; the server keeps nothing from one to the other but what it is told anew (Reopen).
type Host struct {
	awayPatience time.Duration
	// Event is called for each event in the order of the stream, before anything that came later is handed out.
	Event func(body []byte)
	// Again is called with a new connection before any request goes over it, and with what was lost: everything that was
	// known of the host's files may have changed.
	Again func(send func(op operation, folder uint8, body []byte))

	turns chan struct{}

	mutex     sync.Mutex
	conn      net.Conn // nil: the host is away
	lostAt    time.Time
	number    uint32
	waiting   map[uint32]*request
	connected bool // ever

	writing sync.Mutex
}

// session is the time of one connection.
type session struct {
	conn  net.Conn
	ended bool
}

type request struct {
	data   []byte
	sent   int
	answer chan answer
}

type answer struct {
	errno syscall.Errno
	body  []byte
	again bool // the request was sent more than once
}

func newHost() *Host {
	return &Host{
		awayPatience: awayPatience,
		Event:        func([]byte) {},
		Again:        func(func(operation, uint8, []byte)) {},
		turns:        make(chan struct{}, mostRequests),
		lostAt:       time.Now(),
		waiting:      map[uint32]*request{},
	}
}

// Serve takes connections from the listener for as long as it gives any.
func (h *Host) Serve(listener net.Listener) error {
	go h.failLate()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		h.talk(conn)
		_ = conn.Close()
	}
}

// talk uses one connection until it breaks.
func (h *Host) talk(conn net.Conn) {
	reader := bufio.NewReaderSize(conn, 64<<10)
	if _, err := reader.ReadSlice('\n'); err != nil { // the host's identification
		return
	}
	session := &session{conn: conn}
	go h.begin(session)
	for {
		number, errno, body, err := readAnswer(reader)
		if err != nil {
			break
		}
		if number == 0 {
			h.Event(body)
			continue
		}
		h.mutex.Lock()
		asked := h.waiting[number]
		delete(h.waiting, number)
		h.mutex.Unlock()
		if asked != nil {
			asked.answer <- answer{syscall.Errno(errno), body, asked.sent > 1}
		}
	}
	h.mutex.Lock()
	session.ended = true
	h.conn, h.lostAt = nil, time.Now()
	h.mutex.Unlock()
}

// begin says hello, tells the host what it has to know, and sends what still waits for an answer.
func (h *Host) begin(session *session) {
	h.writing.Lock()
	defer h.writing.Unlock()
	conn := session.conn
	send := func(data []byte) { _, _ = conn.Write(data) } // a connection that broke is seen by its reader
	send(frame(h.next(), opHello, 0, (&encoder{}).u32(version).data))
	h.mutex.Lock()
	again := h.connected
	h.connected = true
	h.mutex.Unlock()
	if again {
		h.Again(func(op operation, folder uint8, body []byte) { send(frame(h.next(), op, folder, body)) })
	}
	h.mutex.Lock()
	if session.ended {
		h.mutex.Unlock()
		return
	}
	h.conn = conn
	numbers := make([]uint32, 0, len(h.waiting))
	for number := range h.waiting {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	late := make([][]byte, 0, len(numbers))
	for _, number := range numbers {
		h.waiting[number].sent++
		late = append(late, h.waiting[number].data)
	}
	h.mutex.Unlock()
	for _, data := range late {
		send(data)
	}
}

func (h *Host) next() uint32 {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for h.number++; h.number == 0 || h.waiting[h.number] != nil; h.number++ {
	}
	return h.number
}

// ask sends a request and waits for its answer. A caller that is interrupted is let go only while the host is away: what
// is being done cannot be undone.
func (h *Host) ask(ctx context.Context, op operation, folder uint8, body []byte) (*decoder, bool, syscall.Errno) {
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ctx.Done():
		return nil, false, syscall.EINTR
	}
	number := h.next()
	asked := &request{data: frame(number, op, folder, body), answer: make(chan answer, 1)}
	h.mutex.Lock()
	if h.conn == nil && time.Since(h.lostAt) > h.awayPatience {
		h.mutex.Unlock()
		return nil, false, syscall.EIO
	}
	h.waiting[number] = asked
	conn := h.conn
	if conn != nil {
		asked.sent++
	}
	h.mutex.Unlock()
	if conn != nil {
		h.writing.Lock()
		_, _ = conn.Write(asked.data) // seen by the connection's reader
		h.writing.Unlock()
	}
	return h.await(ctx, number, asked)
}

func (h *Host) await(ctx context.Context, number uint32, asked *request) (*decoder, bool, syscall.Errno) {
	late := time.NewTimer(answerPatience)
	defer late.Stop()
	interrupted := ctx.Done()
	for {
		select {
		case got := <-asked.answer:
			return &decoder{data: got.body}, got.again, got.errno
		case <-late.C:
			return nil, false, h.forget(number, syscall.EIO)
		case <-interrupted:
			if !h.isAway() {
				interrupted = nil
				continue
			}
			return nil, false, h.forget(number, syscall.EINTR)
		}
	}
}

func (h *Host) forget(number uint32, errno syscall.Errno) syscall.Errno {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	delete(h.waiting, number)
	return errno
}

func (h *Host) isAway() bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.conn == nil
}

// failLate ends requests whose host has been away for too long.
func (h *Host) failLate() {
	for range time.Tick(time.Second) {
		h.mutex.Lock()
		if h.conn == nil && time.Since(h.lostAt) > h.awayPatience {
			for number, asked := range h.waiting {
				delete(h.waiting, number)
				asked.answer <- answer{errno: syscall.EIO}
			}
		}
		h.mutex.Unlock()
	}
}
