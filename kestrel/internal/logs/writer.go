// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxLine is the longest text kept as one line; a longer one becomes several.
	maxLine = 16 << 10
	// batchBytes is what is read from a pipe at once, pipeBytes what the pipe holds while nobody reads.
	batchBytes = 128 << 10
	pipeBytes  = 1 << 20
	headBytes  = stampBytes + 3
)

// processLog writes the segments of one process.
type processLog struct {
	store   *Store
	process string
	tag     []byte

	finished []segment // oldest first; guarded by the store's lock

	mutex   sync.Mutex // guards what follows, and the order of lines
	file    *os.File
	current segment
	dropped int
	closed  bool
}

// batch are the two buffers that one batch of lines needs. They are borrowed while there is something to do, so an
// idle process holds none.
type batch struct{ input, output []byte }

var batches = sync.Pool{New: func() any { return &batch{input: make([]byte, batchBytes)} }}

// append keeps whole lines. It never fails: what cannot be kept is counted, and told when there is room again.
func (l *processLog) append(stream Stream, lines []byte) {
	buffers := batches.Get().(*batch)
	l.appendWith(buffers, stream, lines)
	batches.Put(buffers)
}

func (l *processLog) appendWith(buffers *batch, stream Stream, lines []byte) {
	l.store.opening()
	count := bytes.Count(lines, []byte{'\n'})
	most := count + len(lines)/maxLine
	l.mutex.Lock()
	first := l.store.clock.reserve(most + 1)
	output := buffers.output[:0]
	if l.dropped > 0 {
		note := fmt.Sprintf("%d lines of %s were lost: the disk was full\n", l.dropped, l.process)
		output = stampLines(output, first.stamp, Agent, []byte(note))
	}
	output = stampLines(output, first.stamp+1, stream, lines)
	if l.write(first, output) {
		l.dropped = 0
	} else {
		l.dropped += count
	}
	buffers.output = output
	if cap(output) > 4*batchBytes { // very short lines grow it
		buffers.output = nil
	}
	l.mutex.Unlock()
	l.store.wake()
	if l.store.console != nil {
		l.store.console.show(l.tag, lines, count, stream == Agent)
	}
}

// stampLines puts "<time> <stream> " before every line, each a nanosecond after the other.
func stampLines(output []byte, stamp int64, stream Stream, lines []byte) []byte {
	var head [headBytes]byte
	render := func() {
		appendStamp(head[:0], stamp)
		copy(head[stampBytes:], []byte{' ', byte(stream), ' '})
	}
	render()
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n')
		text := lines
		if end >= 0 {
			text = lines[:end]
		}
		if len(text) > maxLine {
			text, lines = text[:maxLine], lines[maxLine:]
		} else {
			lines = lines[min(len(lines), len(text)+1):]
		}
		output = append(output, head[:]...)
		output = append(output, text...)
		output = append(output, '\n')
		stamp++
		index := stampBytes - 2
		for ; index >= 20 && head[index] == '9'; index-- {
			head[index] = '0'
		}
		if index >= 20 {
			head[index]++
		} else {
			render() // the next second
		}
	}
	return output
}

// write appends to the current segment, or to a new one when it is full or the epoch has changed.
func (l *processLog) write(first position, data []byte) bool {
	if l.closed || l.store.directory == "" {
		return false
	}
	store := l.store
	if l.file != nil {
		store.mutex.Lock()
		full := l.current.size+int64(len(data)) > store.segmentBytes()
		store.mutex.Unlock()
		if full || l.current.first.epoch != first.epoch {
			l.finish()
		}
	}
	if l.file == nil && !l.begin(first) {
		return false
	}
	before := l.current.size
	for {
		written, err := l.file.Write(data)
		l.current.size += int64(written)
		store.mutex.Lock()
		store.usedBytes += int64(written)
		l.makeRoom()
		data = data[written:]
		again := err != nil && errors.Is(err, unix.ENOSPC) && (store.removeOldest(l) || store.removeOldest(nil))
		store.mutex.Unlock()
		if err == nil {
			return true
		}
		if !again {
			l.takeBack(before)
			return false
		}
	}
}

// takeBack cuts off what was written of a batch that did not fit, so that the next line begins at a line's begin.
func (l *processLog) takeBack(size int64) {
	if l.current.size == size || l.file.Truncate(size) != nil {
		return
	}
	l.store.mutex.Lock()
	l.store.usedBytes -= l.current.size - size
	l.store.mutex.Unlock()
	l.current.size = size
}

// makeRoom keeps the bounds. Called with both locks held.
func (l *processLog) makeRoom() {
	used := l.current.size
	for _, segment := range l.finished {
		used += segment.size
	}
	for used > l.store.processBytes && len(l.finished) > 0 {
		used -= l.finished[0].size
		l.store.removeOldest(l)
	}
	for l.store.usedBytes > l.store.totalBytes && l.store.removeOldest(nil) {
	}
}

// begin opens a segment: the last of an earlier boot while it has room, or a new one.
func (l *processLog) begin(first position) bool {
	store := l.store
	store.mutex.Lock()
	limit := store.segmentBytes()
	var last *segment
	if count := len(l.finished); count > 0 {
		last = &l.finished[count-1]
	}
	if last != nil && last.first.epoch == first.epoch && last.size < limit/2 {
		l.current = *last
		l.finished = l.finished[:len(l.finished)-1]
	} else {
		l.current = segment{process: l.process, first: first, name: segmentName(l.process, first)}
	}
	store.mutex.Unlock()
	path := filepath.Join(store.directory, l.current.name)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		l.unuse()
		return false
	}
	if l.current.size > 0 { // a crash may have cut the last line short
		var last [1]byte
		if _, err := file.ReadAt(last[:], l.current.size-1); err == nil && last[0] != '\n' {
			if _, err := file.Write([]byte{'\n'}); err == nil {
				l.current.size++
				store.mutex.Lock()
				store.usedBytes++
				store.mutex.Unlock()
			}
		}
	}
	l.file = file
	return true
}

// unuse puts the current segment back among the finished ones after a failed open.
func (l *processLog) unuse() {
	if l.current.size == 0 {
		return
	}
	l.store.mutex.Lock()
	l.finished = append(l.finished, l.current)
	l.store.mutex.Unlock()
}

func (l *processLog) finish() {
	_ = l.file.Close()
	l.file = nil
	l.store.mutex.Lock()
	l.finished = append(l.finished, l.current)
	l.store.mutex.Unlock()
}

func (l *processLog) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.closed = true
	if l.file != nil {
		l.finish()
	}
}

// Pipe is where a process writes. Hand Write to the process as its stdout or stderr, then close it here.
type Pipe struct {
	Write *os.File
	done  chan struct{}
}

// Drained is closed when the last writer has closed its end and everything is kept.
func (p *Pipe) Drained() <-chan struct{} { return p.done }

// WaitDrained waits for that, but not longer than limit: a background process may hold the pipe for good.
func (p *Pipe) WaitDrained(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
}

// Pipe makes a pipe whose lines are kept under the name of a process.
func (s *Store) Pipe(process string, stream Stream) (*Pipe, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot keep the output of %s: %w", process, err)
	}
	// A bigger pipe lets a burst pass while the disk is busy; without the right to one the usual 64 KiB must do.
	_, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, pipeBytes)
	if err := unix.SetNonblock(ends[0], true); err != nil {
		_ = unix.Close(ends[0])
		_ = unix.Close(ends[1])
		return nil, fmt.Errorf("cannot keep the output of %s: %w", process, err)
	}
	pipe := &Pipe{Write: os.NewFile(uintptr(ends[1]), "log pipe"), done: make(chan struct{})}
	go s.pump(s.log(process), stream, os.NewFile(uintptr(ends[0]), "log pipe"), pipe.done)
	return pipe, nil
}

// pump moves lines from a pipe into the log until the last writer has gone.
func (s *Store) pump(log *processLog, stream Stream, source *os.File, done chan struct{}) {
	defer close(done)
	defer source.Close()
	raw, err := source.SyscallConn()
	if err != nil {
		return
	}
	var rest []byte // the beginning of a line whose end has not come yet
	for ended := false; !ended; {
		var buffers *batch
		var read int
		err := raw.Read(func(descriptor uintptr) bool {
			if buffers == nil {
				buffers = batches.Get().(*batch)
			}
			for {
				count, err := unix.Read(int(descriptor), buffers.input[len(rest):])
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if errors.Is(err, unix.EAGAIN) {
					batches.Put(buffers)
					buffers = nil
					return false
				}
				read = count
				ended = err != nil || count == 0
				return true
			}
		})
		if err != nil || buffers == nil {
			return
		}
		copy(buffers.input, rest)
		filled := buffers.input[:len(rest)+max(read, 0)]
		whole := bytes.LastIndexByte(filled, '\n') + 1
		if ended && whole < len(filled) || len(filled)-whole >= maxLine {
			filled = append(filled[:len(filled):len(filled)], '\n') // rare, so a copy does not matter
			whole = len(filled)
		}
		if whole > 0 {
			log.appendWith(buffers, stream, filled[:whole])
		}
		rest = append(rest[:0], filled[whole:]...)
		if len(rest) == 0 {
			rest = nil
		}
		batches.Put(buffers)
	}
}
