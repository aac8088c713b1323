// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

const (
	// A batch of entries must fit a message of the control protocol (1 MiB) even if JSON escapes every byte.
	emitEntries = 512
	emitBytes   = 96 << 10
	readBytes   = 32 << 10
	// followPause bounds how often a follower looks at the files while lines pour in.
	followPause = 50 * time.Millisecond
	maxTail     = 200_000
)

// bell tells a follower when to look again.
type bell interface {
	// arm returns a channel that is closed at the first append after the call.
	arm() <-chan struct{}
}

// ReadDirectory is Store.Read for another program than the one that writes (journalctl).
func ReadDirectory(
	ctx context.Context, directory string, query contract.LogQuery, emit func([]contract.LogEntry) error,
) (cursor string, err error) {
	if !query.Follow {
		return read(ctx, directory, query, emit, nil)
	}
	watch, err := newWatch(directory)
	if err != nil {
		return "", err
	}
	defer watch.Close()
	return read(ctx, directory, query, emit, watch)
}

func read(
	ctx context.Context, directory string, query contract.LogQuery, emit func([]contract.LogEntry) error, bell bell,
) (string, error) {
	r := &reader{directory: directory, scanners: make(map[string]*scanner)}
	if query.Process != "" { // names hold no comma: journalctl -u a -u b asks for "a,b"
		r.processes = strings.Split(query.Process, ",")
	}
	if query.Cursor != "" {
		after, err := parsePosition(query.Cursor)
		if err != nil {
			return "", err
		}
		r.after = after
	}
	if query.Since != "" {
		since, err := ParseSince(query.Since, time.Now())
		if err != nil {
			return "", err
		}
		r.since = since.UnixNano()
	}
	r.last = r.after
	var changed <-chan struct{}
	if query.Follow {
		changed = bell.arm() // before the first look, so that nothing falls between
	}
	if err := r.refresh(query.Tail); err != nil {
		return "", err
	}
	if err := r.run(ctx, emit, query.Tail); err != nil {
		return r.last.String(), err
	}
	for query.Follow {
		select {
		case <-changed:
		case <-ctx.Done():
			return r.last.String(), nil
		}
		changed = bell.arm()
		if err := r.refresh(nil); err != nil {
			return r.last.String(), err
		}
		if err := r.run(ctx, emit, nil); err != nil {
			return r.last.String(), err
		}
		select {
		case <-time.After(followPause):
		case <-ctx.Done():
			return r.last.String(), nil
		}
	}
	return r.last.String(), nil
}

// reader merges the logs of the processes that a query asks for.
type reader struct {
	directory string
	processes []string // empty: all
	after     position // entries up to here are known to the caller
	since     int64
	last      position
	scanners  map[string]*scanner
}

// scanner goes through the segments of one process. It holds a file and a buffer only while it has something to read.
type scanner struct {
	reader   *reader
	segments []segment // not read to their end yet
	offset   int64     // in segments[0], of what comes after buffer
	file     *os.File
	buffer   []byte // read and not used yet
	head     contract.LogEntry
	at       position
	seen     position // of the last entry that was read; what comes again after a failed read is left out
}

// refresh looks which segments there are. What was listed before a file's end is read is all of it, if the list
// shows a newer segment of the same process.
func (r *reader) refresh(tail *int) error {
	segments, err := listSegments(r.directory)
	if err != nil {
		return fmt.Errorf("cannot read logs: %w", err)
	}
	byProcess := make(map[string][]segment)
	for _, segment := range segments {
		if len(r.processes) == 0 || slices.Contains(r.processes, segment.process) {
			byProcess[segment.process] = append(byProcess[segment.process], segment)
		}
	}
	for process, list := range byProcess {
		s, known := r.scanners[process]
		if !known {
			s = &scanner{reader: r}
			r.scanners[process] = s
			s.segments = r.skip(list)
			if tail != nil && len(s.segments) > 0 {
				newest := s.segments[len(s.segments)-1]
				if stamp, ok := lastStamp(filepath.Join(r.directory, newest.name)); ok {
					r.last = r.last.later(position{newest.first.epoch, stamp})
				}
				s.seekTail(min(max(*tail, 0), maxTail))
			}
			continue
		}
		s.update(list)
	}
	return nil
}

// skip leaves out the segments that end before what is asked for.
func (r *reader) skip(list []segment) []segment {
	for len(list) > 1 {
		next := list[1].first
		known := !r.after.before(next)
		old := next.stamp <= r.since && next.epoch == list[0].first.epoch
		if !known && !old {
			break
		}
		list = list[1:]
	}
	return list
}

// update replaces the list, keeping the place. Segments that were removed while they were read are gone.
func (s *scanner) update(list []segment) {
	var current position
	if len(s.segments) > 0 {
		current = s.segments[0].first
	}
	for len(list) > 0 && list[0].first.before(current) {
		list = list[1:]
	}
	if len(list) == 0 || list[0].first != current {
		s.close()
		s.offset, s.buffer = 0, nil
	}
	s.segments = list
}

// seekTail moves to the place from which count lines are left.
func (s *scanner) seekTail(count int) {
	for index := len(s.segments) - 1; index >= 0; index-- {
		offset, found := tailOffset(filepath.Join(s.reader.directory, s.segments[index].name), count)
		if found >= count || index == 0 {
			s.segments, s.offset = s.segments[index:], offset
			return
		}
		count -= found
	}
}

// tailOffset finds where the last count lines of a file begin; found is how many there are, at most count.
func tailOffset(path string, count int) (offset int64, found int) {
	file, err := os.Open(path)
	if err != nil {
		return 0, 0
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, 0
	}
	end := info.Size()
	if count == 0 {
		return end, 0
	}
	block := make([]byte, readBytes)
	newlines := 0
	for end > 0 {
		begin := max(0, end-readBytes)
		part := block[:end-begin]
		if _, err := file.ReadAt(part, begin); err != nil && err != io.EOF {
			return end, newlines
		}
		for index := len(part) - 1; index >= 0; index-- {
			if part[index] != '\n' {
				continue
			}
			if newlines == count { // the end of the line before those
				return begin + int64(index) + 1, count
			}
			newlines++
		}
		end = begin
	}
	return 0, newlines
}

// next makes head the next entry; false: there is none for now.
func (s *scanner) next() bool {
	for {
		line, ok := s.line()
		if !ok {
			return false
		}
		stamp, ok := parseStamp(line)
		if !ok || len(line) < headBytes {
			continue // torn by a crash
		}
		s.at = position{s.segments[0].first.epoch, stamp}
		if !s.seen.before(s.at) || !s.reader.after.before(s.at) || stamp < s.reader.since {
			continue
		}
		s.seen = s.at
		s.head = contract.LogEntry{
			Cursor:  s.at.String(),
			Time:    string(line[:stampBytes]),
			Process: s.segments[0].process,
			Stream:  Stream(line[stampBytes+1]).String(),
			Line:    string(line[headBytes:]),
		}
		return true
	}
}

// line returns the next whole line without its end.
func (s *scanner) line() ([]byte, bool) {
	for len(s.segments) > 0 {
		if end := bytes.IndexByte(s.buffer, '\n'); end >= 0 {
			line := s.buffer[:end]
			s.buffer = s.buffer[end+1:]
			return line, true
		}
		read, err := s.fill()
		if err == nil && read > 0 {
			continue
		}
		s.close()
		if len(s.segments) == 1 && err == nil {
			// The unfinished line is read again next time.
			s.offset -= int64(len(s.buffer))
			s.buffer = nil
			return nil, false
		}
		s.segments, s.offset, s.buffer = s.segments[1:], 0, nil
	}
	return nil, false
}

func (s *scanner) fill() (int, error) {
	if s.file == nil {
		if s.segments[0].size <= s.offset && len(s.segments) == 1 {
			return 0, nil
		}
		file, err := os.Open(filepath.Join(s.reader.directory, s.segments[0].name))
		if err != nil {
			return 0, err
		}
		s.file = file
	}
	buffer := make([]byte, len(s.buffer)+readBytes)
	kept := copy(buffer, s.buffer)
	read, err := s.file.ReadAt(buffer[kept:], s.offset)
	s.buffer = buffer[:kept+read]
	s.offset += int64(read)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return read, err
}

func (s *scanner) close() {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

// merge is a heap of scanners by their next entry.
type merge []*scanner

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return m[i].at.before(m[j].at) }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(value any)    { *m = append(*m, value.(*scanner)) }
func (m *merge) Pop() any {
	old := *m
	last := old[len(old)-1]
	*m = old[:len(old)-1]
	return last
}

// run emits all there is, in order; with tail only the last lines of it.
func (r *reader) run(ctx context.Context, emit func([]contract.LogEntry) error, tail *int) error {
	queue := &merge{}
	defer func() {
		for _, s := range r.scanners {
			s.close()
		}
	}()
	for _, s := range r.scanners {
		if s.next() {
			*queue = append(*queue, s)
		}
	}
	heap.Init(queue)
	var pending []contract.LogEntry
	size := 0
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		defer func() { pending, size = nil, 0 }()
		return emit(pending)
	}
	keep := -1
	if tail != nil {
		keep = min(max(*tail, 0), maxTail)
	}
	for queue.Len() > 0 {
		if err := ctx.Err(); err != nil {
			return nil //nolint:nilerr // the end of the context is how a query is ended
		}
		s := (*queue)[0]
		pending = append(pending, s.head)
		size += len(s.head.Line)
		r.last = r.last.later(s.at)
		if s.next() {
			heap.Fix(queue, 0)
		} else {
			heap.Pop(queue)
		}
		if keep >= 0 {
			if len(pending) > 2*keep+emitEntries {
				pending = append([]contract.LogEntry(nil), pending[len(pending)-keep:]...)
			}
			continue
		}
		if len(pending) >= emitEntries || size >= emitBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if keep < 0 {
		return flush()
	}
	rest := pending[max(0, len(pending)-keep):]
	for len(rest) > 0 {
		count, bytes := 0, 0
		for count < len(rest) && count < emitEntries && bytes < emitBytes {
			bytes += len(rest[count].Line)
			count++
		}
		if err := emit(rest[:count]); err != nil {
			return err
		}
		rest = rest[count:]
	}
	return nil
}

// ParseSince reads a point in time as `--since` takes it: RFC 3339, "2006-01-02 15:04[:05]", a date, "@seconds",
// "today", "yesterday", "now", or how long ago: "10m", "-10m", "1h30m", "10 min ago", "2 days ago".
func ParseSince(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch text {
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	if seconds, found := strings.CutPrefix(text, "@"); found {
		if duration, err := time.ParseDuration(seconds + "s"); err == nil {
			return time.Unix(0, 0).Add(duration), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if parsed, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return parsed, nil
		}
	}
	ago := strings.TrimSuffix(strings.TrimPrefix(text, "-"), " ago")
	if duration, err := time.ParseDuration(ago); err == nil && duration >= 0 {
		return now.Add(-duration), nil
	}
	var count int
	var unit string
	if matched, _ := fmt.Sscanf(ago, "%d%s", &count, &unit); matched == 2 && count >= 0 {
		units := map[string]time.Duration{
			"s": time.Second, "sec": time.Second, "second": time.Second,
			"m": time.Minute, "min": time.Minute, "minute": time.Minute,
			"h": time.Hour, "hour": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour,
			"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour,
		}
		if length, known := units[unit]; known {
			return now.Add(-time.Duration(count) * length), nil
		}
		if length, known := units[strings.TrimSuffix(unit, "s")]; known {
			return now.Add(-time.Duration(count) * length), nil
		}
	}
	return time.Time{}, fmt.Errorf("cannot read the time %q: write it like 2026-01-31 15:04, 10m or \"1 hour ago\"", text)
}
