// SPDX-License-Identifier: Apache-2.0

// Package attach joins people to the standard input and output of the workload, as `docker attach` does.
//
// What the program writes goes to its log first, and then to everybody who is there. Whoever comes first is shown what
// nobody has seen yet: a prompt is written before anybody can have come.
package attach

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"

	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	copyBytes = 16 << 10
	// maxUnseen is what is kept for the first who comes.
	maxUnseen = 64 << 10
	// lingerTimeout is how long output of an ended program is read that a process in the background holds open.
	lingerTimeout = 300 * time.Millisecond
)

// Settings are what was asked for when the VM was made. Once: its input ends with the first who has given it any.
type Settings struct{ Stdin, Once, Terminal bool }

// Station is where people are joined to one workload; it outlives each run of the program.
type Station struct {
	settings Settings

	mutex   sync.Mutex
	run     *run
	changed chan struct{} // closed when another run has begun, or none will
	over    bool
	size    *pty.Winsize
}

// New returns nil where nothing was asked for.
func New(settings Settings) *Station {
	if !settings.Stdin && !settings.Terminal {
		return nil
	}
	return &Station{settings: settings, changed: make(chan struct{})}
}

// Run is one run of the program, from before its start.
type Run struct {
	station *Station
	run     *run
	// Files are the program's own, for it alone: the caller closes them once it has started, or could not.
	Files []*os.File
}

// Prepare makes what a program is started with. Its output goes to these logs, which are closed with it. UID and GID
// own the terminal.
func (s *Station) Prepare(stdout, stderr *os.File, uid, gid int) (*Run, error) {
	made := &run{settings: s.settings, ended: make(chan struct{}), empty: make(chan struct{}, 1)}
	prepared := &Run{station: s, run: made}
	var err error
	if s.settings.Terminal {
		err = made.openTerminal(prepared, stdout, uid, gid)
		_ = stderr.Close() // there is one stream alone
	} else {
		err = made.openPipes(prepared, stdout, stderr)
	}
	if err != nil {
		for _, file := range prepared.Files {
			_ = file.Close() // one that is nil minds nothing
		}
		prepared.Abandon()
		return nil, fmt.Errorf("cannot attach the workload: %w", err)
	}
	return prepared, nil
}

func (r *run) openTerminal(prepared *Run, log *os.File, uid, gid int) error {
	r.outputs = []output{{log: log}}
	master, slave, err := pty.Open()
	if err != nil {
		return err
	}
	_ = slave.Chown(uid, gid)
	_ = slave.Chmod(0o620)
	r.terminal = master
	if r.settings.Stdin {
		r.input = master
	}
	r.outputs[0].from = master
	prepared.Files = []*os.File{slave, slave, slave}
	prepared.station.mutex.Lock()
	size := prepared.station.size
	prepared.station.mutex.Unlock()
	if size != nil {
		return pty.Setsize(master, size)
	}
	return nil
}

func (r *run) openPipes(prepared *Run, logs ...*os.File) error {
	prepared.Files = make([]*os.File, 3)
	var problems []error
	var err error
	prepared.Files[0], r.input, err = os.Pipe()
	problems = append(problems, err)
	for index, log := range logs {
		reader, writer, err := os.Pipe()
		if err != nil {
			_ = log.Close()
			problems = append(problems, err)
			continue
		}
		prepared.Files[index+1] = writer
		r.outputs = append(r.outputs, output{from: reader, log: log, isError: index == 1})
	}
	return errors.Join(problems...)
}

// Begin is called when the program has started: from now on people are joined to this run.
func (p *Run) Begin() {
	p.run.follow()
	p.station.mutex.Lock()
	defer p.station.mutex.Unlock()
	p.station.run = p.run
	p.station.tell()
}

// End is called when the program has ended. It returns when its last words are in the log.
func (p *Run) End(status reaper.Status) { p.run.end(status) }

// Abandon is called when the program could not be started.
func (p *Run) Abandon() {
	for _, stream := range p.run.outputs {
		_, _ = stream.log.Close(), stream.from.Close()
	}
	p.run.close()
}

// Close is called when no other run will come; whoever waits for one is told so.
func (s *Station) Close() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.over = true
	s.tell()
}

// Reopen is called when the program is to be started again after all.
func (s *Station) Reopen() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.over = false
}

func (s *Station) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// ErrLeft: the client has gone before the program ended.
var ErrLeft = errors.New("the client has gone")

// Attach joins a client to the run that there is, or to the next one, until the program has ended, with its status, or
// the client is gone.
func (s *Station) Attach(stdin io.Reader, stdout, stderr io.Writer, gone <-chan struct{}) (reaper.Status, error) {
	for {
		s.mutex.Lock()
		current, changed, over := s.run, s.changed, s.over
		s.mutex.Unlock()
		if current != nil && (over || !current.isOver() || current.hasUnseen()) {
			return current.serve(stdin, stdout, stderr, gone)
		}
		if over {
			return reaper.Status{}, errors.New("the workload does not run, and is not started again")
		}
		select {
		case <-changed:
		case <-gone:
			return reaper.Status{}, ErrLeft
		}
	}
}

// Resize gives the terminal another size, that of this run and of those to come.
func (s *Station) Resize(columns, rows uint32) error {
	size := &pty.Winsize{Cols: uint16(min(columns, 0xffff)), Rows: uint16(min(rows, 0xffff))}
	s.mutex.Lock()
	s.size = size
	current := s.run
	s.mutex.Unlock()
	if current == nil || current.terminal == nil || current.isOver() {
		return nil
	}
	return pty.Setsize(current.terminal, size)
}

// WaitServed returns when nobody is joined any more, or after a while.
func (s *Station) WaitServed(patience time.Duration) {
	s.mutex.Lock()
	current := s.run
	s.mutex.Unlock()
	if current != nil {
		current.waitServed(patience)
	}
}
