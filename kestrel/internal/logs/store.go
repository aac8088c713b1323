// SPDX-License-Identifier: Apache-2.0

// Package logs keeps what processes and the agent itself say: stamped, bounded, on disk across reboots.
//
// A process writes into a pipe (see Pipe); a goroutine moves whole batches of lines from there into segment files, so a line
// costs a copy and no allocation. Nothing is kept in memory: readers read the files, and follow them by being woken.
// When a process's share is full its oldest segment goes; when the disk is full lines are dropped and counted. The
// process is never made to wait for a reader or for the console.
package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Where logs lie in a guest: on the disk, or in RAM where the disk cannot be written.
const (
	DiskDirectory   = "/var/log/kestrel"
	MemoryDirectory = "/run/kestrel/log"
	// AgentProcess is the name under which the agent's own lines are kept.
	AgentProcess = "kestrel"
)

// Stream is where a line came from.
type Stream byte

// Streams, by the letter that stands for them in a file.
const (
	Stdout Stream = 'o'
	Stderr Stream = 'e'
	Agent  Stream = 'a'
)

func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	default:
		return "agent"
	}
}

// Options of Open. Zero sizes mean the defaults.
type Options struct {
	// Directories are tried in this order; the first that can be written is used. Default: DiskDirectory, MemoryDirectory.
	Directories []string
	// ProcessBytes bounds what one process keeps, TotalBytes all of them together.
	ProcessBytes, TotalBytes int64
	// Console gets copies of the lines, tagged and at a bounded rate; nil: none.
	Console *Console
}

// Bounds on disk. In RAM and on small disks they are smaller; see Open.
const (
	defaultProcessBytes = 10 << 20
	defaultTotalBytes   = 100 << 20
	memoryTotalBytes    = 8 << 20
	segmentsPerProcess  = 8
)

// Store keeps the logs of one guest.
type Store struct {
	opening   func() // opens the store where that has not been done yet
	directory string
	console   *Console
	clock     clock

	mutex        sync.Mutex
	processBytes int64
	totalBytes   int64
	usedBytes    int64
	processes    map[string]*processLog
	changed      chan struct{} // closed and replaced at every append that somebody waits for
	waiting      bool
	closed       bool
}

// Open finds a directory that can be written and continues the logs that lie there.
func Open(options Options) (*Store, error) {
	store := newStore(options)
	if err := store.open(options.Directories); err != nil {
		return nil, err
	}
	store.opening = func() {}
	return store, nil
}

// OpenLater is Open, done when the first line or the first reader comes: in a guest that is after the workload's start,
// which then does not wait for the disk. A failure is told to failed.
func OpenLater(options Options, failed func(error)) *Store {
	store := newStore(options)
	store.opening = sync.OnceFunc(func() {
		if err := store.open(options.Directories); err != nil {
			failed(err)
		}
	})
	return store
}

func newStore(options Options) *Store {
	return &Store{
		console:      options.Console,
		processBytes: options.ProcessBytes,
		totalBytes:   options.TotalBytes,
		processes:    make(map[string]*processLog),
		changed:      make(chan struct{}),
	}
}

// open takes the first of the directories that can be written.
func (s *Store) open(directories []string) error {
	if len(directories) == 0 {
		directories = []string{DiskDirectory, MemoryDirectory}
	}
	var problems []error
	for _, directory := range directories {
		if err := makeWritable(directory); err != nil {
			problems = append(problems, err)
			continue
		}
		return s.adopt(directory)
	}
	return fmt.Errorf("cannot keep logs: %w", errors.Join(problems...))
}

// Directory is where the logs lie.
func (s *Store) Directory() string {
	s.opening()
	return s.directory
}

// Say keeps a line of the agent itself, and shows it on the console.
func (s *Store) Say(format string, arguments ...any) {
	line := fmt.Sprintf(format, arguments...)
	s.log(AgentProcess).append(Agent, []byte(strings.TrimRight(line, "\n")+"\n"))
}

// Read answers a query: it hands entries to emit in batches and returns the cursor after the last. With follow it
// goes on until the context ends (which is no error). An error of emit ends it.
func (s *Store) Read(
	ctx context.Context, query contract.LogQuery, emit func([]contract.LogEntry) error,
) (cursor string, err error) {
	s.opening()
	return read(ctx, s.directory, query, emit, s)
}

// arm returns a channel that is closed at the next append.
func (s *Store) arm() <-chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.waiting = true
	return s.changed
}

// wake tells the followers that there is more.
func (s *Store) wake() {
	s.mutex.Lock()
	if s.waiting {
		close(s.changed)
		s.changed, s.waiting = make(chan struct{}), false
	}
	s.mutex.Unlock()
}

// Close closes the files. Pipes that processes still hold go on being read, into nothing.
func (s *Store) Close() {
	s.mutex.Lock()
	s.closed = true
	logs := make([]*processLog, 0, len(s.processes))
	for _, log := range s.processes {
		logs = append(logs, log)
	}
	s.mutex.Unlock()
	for _, log := range logs {
		log.close()
	}
}

func (s *Store) log(process string) *processLog {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.logLocked(process)
}

func (s *Store) logLocked(process string) *processLog {
	log, ok := s.processes[process]
	if !ok {
		log = &processLog{store: s, process: process, tag: []byte("[" + process + "] ")}
		s.processes[process] = log
	}
	return log
}

// makeWritable makes a directory in which files can be made. Asking is cheaper than making one, which would write to
// the disk before anything runs.
func makeWritable(directory string) error {
	if err := os.MkdirAll(directory, 0o750); err != nil {
		return err
	}
	if err := unix.Access(directory, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write", Path: directory, Err: err}
	}
	return nil
}

// adopt takes over what an earlier boot left, and chooses bounds that fit the file system.
func (s *Store) adopt(directory string) error {
	segments, err := listSegments(directory)
	if err != nil {
		return fmt.Errorf("cannot read the logs of earlier boots: %w", err)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.directory = directory
	if s.totalBytes == 0 {
		s.totalBytes = chooseTotal(directory)
	}
	if s.processBytes == 0 {
		s.processBytes = min(defaultProcessBytes, s.totalBytes/2)
	}
	var latest position
	for _, segment := range segments {
		log := s.logLocked(segment.process)
		log.finished = append(log.finished, segment)
		s.usedBytes += segment.size
		latest = latest.later(segment.first)
	}
	for _, log := range s.processes {
		if len(log.finished) == 0 { // it has a pipe and has not said anything yet
			continue
		}
		newest := log.finished[len(log.finished)-1]
		if stamp, ok := lastStamp(filepath.Join(directory, newest.name)); ok {
			latest = latest.later(position{newest.first.epoch, stamp})
		}
	}
	s.clock.continueFrom(latest)
	return nil
}

// chooseTotal takes a tenth of the file system at most, and less in RAM.
func chooseTotal(directory string) int64 {
	var stat unix.Statfs_t
	if err := unix.Statfs(directory, &stat); err != nil {
		return memoryTotalBytes
	}
	if stat.Type == unix.TMPFS_MAGIC || stat.Type == unix.RAMFS_MAGIC {
		return memoryTotalBytes
	}
	return max(1<<20, min(defaultTotalBytes, int64(stat.Blocks)*stat.Bsize/10))
}

// segmentBytes is the size at which a segment is finished: small enough that the open segments of all processes
// together stay below half of the bound.
func (s *Store) segmentBytes() int64 {
	return max(4096, min(s.processBytes/segmentsPerProcess, s.totalBytes/int64(2*max(1, len(s.processes)))))
}

// removeOldest makes room: the oldest finished segment of this process goes, or (nil) the oldest of all. It reports
// whether there was one. Called with the store's lock held.
func (s *Store) removeOldest(log *processLog) bool {
	if log == nil {
		for _, candidate := range s.processes {
			if len(candidate.finished) == 0 {
				continue
			}
			if log == nil || candidate.finished[0].first.before(log.finished[0].first) {
				log = candidate
			}
		}
	}
	if log == nil || len(log.finished) == 0 {
		return false
	}
	oldest := log.finished[0]
	log.finished = log.finished[1:]
	s.usedBytes -= oldest.size
	_ = os.Remove(filepath.Join(s.directory, oldest.name))
	return true
}
