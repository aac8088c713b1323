// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const patience = time.Minute

// program is a real one, started at a station as the supervisor does it.
type program struct {
	t       *testing.T
	run     *Run
	command *exec.Cmd
	logs    [2]*os.File // read ends
}

func start(t *testing.T, station *Station, line string) *program {
	t.Helper()
	p := &program{t: t, command: exec.Command("/bin/sh", "-c", line)}
	var writers [2]*os.File
	for index := range writers {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p.logs[index], writers[index] = reader, writer
		t.Cleanup(func() { _ = reader.Close() })
	}
	run, err := station.Prepare(writers[0], writers[1], os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	p.run = run
	p.command.Stdin, p.command.Stdout, p.command.Stderr = run.Files[0], run.Files[1], run.Files[2]
	p.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: station.settings.Terminal}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	for _, file := range run.Files {
		_ = file.Close()
	}
	run.Begin()
	return p
}

// end waits for the program, as the reaper does, and tells the station.
func (p *program) end() {
	_ = p.command.Wait()
	p.run.End(reaper.Status{Code: p.command.ProcessState.ExitCode()})
}

func (p *program) readLog(index int) string {
	p.t.Helper()
	content, err := io.ReadAll(p.logs[index])
	if err != nil {
		p.t.Fatal(err)
	}
	return string(content)
}

// visitor is somebody who is joined: what is written to `types` is typed, what is shown can be waited for.
type visitor struct {
	t     *testing.T
	types *io.PipeWriter
	gone  chan struct{}
	ended chan struct{}

	mutex  sync.Mutex
	shown  bytes.Buffer
	errors bytes.Buffer
	status reaper.Status
	err    error
}

func join(t *testing.T, station *Station) *visitor {
	reader, writer := io.Pipe()
	c := &visitor{t: t, types: writer, gone: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.status, c.err = station.Attach(reader, locked{c, &c.shown}, locked{c, &c.errors}, c.gone)
		_ = reader.Close()
	}()
	return c
}

type locked struct {
	client *visitor
	buffer *bytes.Buffer
}

func (l locked) Write(content []byte) (int, error) {
	l.client.mutex.Lock()
	defer l.client.mutex.Unlock()
	return l.buffer.Write(content)
}

func (c *visitor) waitFor(text string) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c.mutex.Lock()
		shown := c.shown.String()
		c.mutex.Unlock()
		if strings.Contains(shown, text) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%q was not shown, but %q", text, shown)
		}
	}
}

func (c *visitor) waitEnded() (reaper.Status, error) {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.t.Fatal("the client was not told of the end")
	}
	return c.status, c.err
}

func TestNobodyIsJoinedToWhatHasNoInput(t *testing.T) {
	if station := New(Settings{Once: true}); station != nil {
		t.Error("there is a station")
	}
}

func TestInputAndBothOutputsOfAProgram(t *testing.T) {
	station := New(Settings{Stdin: true, Once: true})
	early := join(t, station) // before there is anything to be joined to
	p := start(t, station, "printf 'who? '; read name; echo hello $name; echo no >&2; cat; exit 7")
	early.waitFor("who? ") // which no line has ended
	_, _ = io.WriteString(early.types, "ana\nrest")
	early.waitFor("hello ana\nrest")
	_ = early.types.Close()
	p.end()
	status, err := early.waitEnded()
	if err != nil || status.Code != 7 {
		t.Errorf("it ended with %v (%v)", status, err)
	}
	if early.errors.String() != "no\n" {
		t.Errorf("errors are %q", early.errors.String())
	}
	if log := p.readLog(0); log != "who? hello ana\nrest" {
		t.Errorf("its log is %q", log)
	}
	if log := p.readLog(1); log != "no\n" {
		t.Errorf("its log of errors is %q", log)
	}
}

func TestWithoutOnceTheInputStaysWhenAClientGoes(t *testing.T) {
	station := New(Settings{Stdin: true})
	p := start(t, station, "while read line; do echo got $line; test $line = end && exit; done; echo lost")
	first := join(t, station)
	_, _ = io.WriteString(first.types, "one\n")
	first.waitFor("got one")
	close(first.gone)
	if _, err := first.waitEnded(); !errors.Is(err, ErrLeft) {
		t.Errorf("who has gone is told %v", err)
	}
	_ = first.types.Close()
	second := join(t, station)
	_, _ = io.WriteString(second.types, "end\n")
	p.end()
	if status, err := second.waitEnded(); err != nil || status.Code != 0 {
		t.Errorf("it ended with %v (%v)", status, err)
	}
	if second.shown.String() != "got end\n" {
		t.Errorf("the second was shown %q", second.shown.String())
	}
	station.WaitServed(patience)
}

func TestATerminalHasASizeAndEchoes(t *testing.T) {
	station := New(Settings{Stdin: true, Once: true, Terminal: true})
	if err := station.Resize(91, 17); err != nil { // before the program has begun
		t.Fatal(err)
	}
	p := start(t, station, "stty size; read line; stty size; test -t 0 && test -t 2 && echo terminal of $(tty)")
	c := join(t, station)
	c.waitFor("17 91\r\n")
	if err := station.Resize(100, 30); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c.types, "typed\r")
	p.end()
	if status, err := c.waitEnded(); err != nil || status.Code != 0 {
		t.Errorf("it ended with %v (%v)", status, err)
	}
	for _, text := range []string{"typed\r\n", "30 100\r\n", "terminal of /dev/pts/"} {
		if !strings.Contains(c.shown.String(), text) {
			t.Errorf("%q is not in %q", text, c.shown.String())
		}
	}
	if err := station.Resize(80, 24); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

func TestWhatNobodyHasSeenIsShownToWhoComesFirstAndTheEndToo(t *testing.T) {
	station := New(Settings{Stdin: true})
	start(t, station, "echo early; exit 3").end()
	station.Close()
	first := join(t, station)
	if status, err := first.waitEnded(); err != nil || status.Code != 3 || first.shown.String() != "early\n" {
		t.Errorf("shown is %q, the end %v (%v)", first.shown.String(), status, err)
	}
	second := join(t, station)
	if status, err := second.waitEnded(); err != nil || status.Code != 3 || second.shown.Len() > 0 {
		t.Errorf("shown is %q, the end %v (%v)", second.shown.String(), status, err)
	}
}

func TestTheNextRunIsWaitedForUnlessThereIsNone(t *testing.T) {
	station := New(Settings{Stdin: true, Once: true})
	start(t, station, "echo one").end()
	if first := join(t, station); true {
		_, _ = first.waitEnded()
	}
	waiting := join(t, station)
	p := start(t, station, "cat")
	_, _ = io.WriteString(waiting.types, "two\n")
	waiting.waitFor("two")
	_ = waiting.types.Close()
	p.end()
	if status, err := waiting.waitEnded(); err != nil || status.Code != 0 {
		t.Errorf("the second ended with %v (%v)", status, err)
	}
	never := New(Settings{Stdin: true})
	never.Close()
	if _, err := join(t, never).waitEnded(); err == nil {
		t.Error("what never runs has an end")
	}
}

// A terminal that nobody reads holds a program up; a client that has gone does not.
func TestAClientThatHasGoneHoldsNobodyUp(t *testing.T) {
	station := New(Settings{Stdin: true})
	p := start(t, station, "read line; dd if=/dev/zero bs=1024 count=4096 2>/dev/null | tr '\\0' x; exit 0")
	drained := make(chan int)
	go func() { drained <- len(p.readLog(0)) }()
	slow, gone := stuckWriter{make(chan struct{}), make(chan struct{})}, make(chan struct{})
	reader, writer := io.Pipe()
	over := make(chan error)
	go func() {
		_, err := station.Attach(reader, slow, io.Discard, gone)
		over <- err
	}()
	_, _ = io.WriteString(writer, "go\n")
	<-slow.begun // it has been given something, and takes no more
	close(gone)
	close(slow.free)
	p.end()
	if err := <-over; !errors.Is(err, ErrLeft) {
		t.Errorf("who has gone is told %v", err)
	}
	if size := <-drained; size != 4<<20 {
		t.Errorf("the log has %d bytes", size)
	}
}

// stuckWriter takes nothing until it is free, and fails then, as a connection does that is cut.
type stuckWriter struct{ begun, free chan struct{} }

func (w stuckWriter) Write([]byte) (int, error) {
	select {
	case <-w.begun:
	default:
		close(w.begun)
	}
	<-w.free
	return 0, io.ErrClosedPipe
}

func TestAProgramThatCannotStartLeavesNothingOpen(t *testing.T) {
	for _, settings := range []Settings{{Stdin: true}, {Terminal: true}} {
		station := New(settings)
		reader, writer, _ := os.Pipe()
		other, second, _ := os.Pipe()
		run, err := station.Prepare(writer, second, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range run.Files {
			_ = file.Close()
		}
		run.Abandon()
		for _, log := range []*os.File{reader, other} {
			if content, err := io.ReadAll(log); err != nil || len(content) > 0 {
				t.Errorf("a log has %q (%v)", content, err)
			}
			_ = log.Close()
		}
	}
}
