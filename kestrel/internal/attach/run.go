// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	// queueLength chunks wait for a client that reads more slowly than the program writes; then the program waits for it, as
	// for a terminal, but not for one that has stood still for so long.
	queueLength = 16
	stallLimit  = 10 * time.Second
)

// output is one stream of a program: where it is read from, and the log that it goes to first.
type output struct {
	from, log *os.File
	isError   bool
}

// chunk is what was read at once.
type chunk struct {
	content []byte
	isError bool
}

// run is one run of the program.
type run struct {
	settings Settings
	terminal *os.File // nil: pipes
	input    *os.File // nil: none was asked for
	outputs  []output
	copying  sync.WaitGroup

	mutex   sync.Mutex
	clients map[*client]struct{}
	seen    bool // by whoever came first
	unseen  []chunk
	size    int           // of unseen
	empty   chan struct{} // gets a value when the last client has left
	closing sync.Once
	ended   chan struct{}
	status  reaper.Status // once it has ended
}

// client is one that is joined, until it has left.
type client struct {
	queue chan chunk
	left  chan struct{}
	leave sync.Once
}

func (c *client) release() { c.leave.Do(func() { close(c.left) }) }

// follow reads what the program writes until it has ended.
func (r *run) follow() {
	for _, stream := range r.outputs {
		r.copying.Go(func() { r.copy(stream) })
	}
}

func (r *run) copy(stream output) {
	defer func() {
		_ = stream.log.Close()
		if stream.from != r.terminal { // which is closed with the run
			_ = stream.from.Close()
		}
	}()
	for {
		buffer := make([]byte, copyBytes)
		count, err := stream.from.Read(buffer)
		if count > 0 {
			_, _ = stream.log.Write(buffer[:count])
			r.show(chunk{buffer[:count], stream.isError})
		}
		if err != nil { // end-of-file, EIO of a terminal without a program, or the deadline
			return
		}
	}
}

// show gives a chunk to everybody who is there, or keeps it for the first who comes.
func (r *run) show(written chunk) {
	r.mutex.Lock()
	if !r.seen {
		r.unseen = append(r.unseen, written)
		r.size += len(written.content)
		for r.size > maxUnseen {
			r.size -= len(r.unseen[0].content)
			r.unseen = r.unseen[1:]
		}
	}
	clients := make([]*client, 0, len(r.clients))
	for one := range r.clients {
		clients = append(clients, one)
	}
	r.mutex.Unlock()
	for _, one := range clients {
		select {
		case one.queue <- written:
			continue
		default:
		}
		stalled := time.NewTimer(stallLimit)
		select {
		case one.queue <- written:
		case <-one.left:
		case <-stalled.C:
			r.remove(one)
		}
		stalled.Stop()
	}
}

// serve joins a client until the program has ended and everything is told, or the client is gone.
func (r *run) serve(stdin io.Reader, stdout, stderr io.Writer, gone <-chan struct{}) (reaper.Status, error) {
	one, earlier := r.add()
	defer r.remove(one)
	go r.take(stdin)
	write := func(written chunk) bool {
		target := stdout
		if written.isError {
			target = stderr
		}
		_, err := target.Write(written.content)
		return err == nil
	}
	for _, written := range earlier {
		if !write(written) {
			return reaper.Status{}, ErrLeft
		}
	}
	for {
		select {
		case written := <-one.queue:
			if !write(written) {
				return reaper.Status{}, ErrLeft
			}
		case <-gone:
			return reaper.Status{}, ErrLeft
		case <-one.left:
			return reaper.Status{}, ErrLeft
		case <-r.ended:
			for {
				select {
				case written := <-one.queue:
					if !write(written) {
						return reaper.Status{}, ErrLeft
					}
					continue
				default:
				}
				return r.status, nil
			}
		}
	}
}

// take gives the program what a client types. With Once its end is the end of the program's input: a terminal has none.
func (r *run) take(stdin io.Reader) {
	if r.input == nil {
		return
	}
	buffer := make([]byte, copyBytes)
	for {
		count, err := stdin.Read(buffer)
		if count > 0 {
			if _, err := r.input.Write(buffer[:count]); err != nil {
				return
			}
		}
		if err != nil {
			if r.settings.Once && r.terminal == nil {
				_ = r.input.Close()
			}
			return
		}
	}
}

func (r *run) add() (one *client, earlier []chunk) {
	one = &client{queue: make(chan chunk, queueLength), left: make(chan struct{})}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.clients == nil {
		r.clients = make(map[*client]struct{})
	}
	r.clients[one] = struct{}{}
	earlier, r.unseen, r.size, r.seen = r.unseen, nil, 0, true
	return one, earlier
}

func (r *run) remove(one *client) {
	r.mutex.Lock()
	delete(r.clients, one)
	isEmpty := len(r.clients) == 0
	r.mutex.Unlock()
	one.release()
	if isEmpty {
		select {
		case r.empty <- struct{}{}:
		default:
		}
	}
}

func (r *run) hasUnseen() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(r.unseen) > 0
}

func (r *run) isOver() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// end is called when the program has ended: what is in the pipes already is read, and no more.
func (r *run) end(status reaper.Status) {
	for _, stream := range r.outputs {
		_ = stream.from.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	r.copying.Wait()
	r.status = status
	close(r.ended)
	r.close()
}

// close lets go of what the program had.
func (r *run) close() {
	r.closing.Do(func() {
		if r.input != nil {
			_ = r.input.Close()
		}
		if r.terminal != nil && r.terminal != r.input {
			_ = r.terminal.Close()
		}
	})
}

// waitServed returns when nobody is joined any more, or after a while.
func (r *run) waitServed(patience time.Duration) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		r.mutex.Lock()
		count := len(r.clients)
		r.mutex.Unlock()
		if count == 0 {
			return
		}
		select {
		case <-r.empty:
		case <-limit.C:
			return
		}
	}
}
