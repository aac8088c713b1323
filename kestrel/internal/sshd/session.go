// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/passwd"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	maxEnvironment = 1024
	copyBytes      = 16 << 10
	// Output of a program that has ended is in the pipe already; what keeps the pipe open longer is a background
	// process, which must not keep the session (`ssh host 'server &'` hangs elsewhere).
	lingerTimeout = 300 * time.Millisecond
)

// session is one session channel: at most one program, shell or subsystem.
type session struct {
	connection *connection
	channel    ssh.Channel
	account    passwd.Account
	env        []string // what the client asked for
	workingDir string
	refusal    error // why no program can be run
	terminal   *terminal
	agent      *agentSocket
	run        func() // set by the request that says what to run
	attached   bool   // to the workload
	left       chan struct{}

	mutex   sync.Mutex
	process *reaper.Process
	gone    bool // the client closed the channel
}

func (c *connection) serveSession(newChannel ssh.NewChannel) {
	channel, requests, err := newChannel.Accept()
	if err != nil {
		return
	}
	s := &session{connection: c, channel: channel, account: c.account, left: make(chan struct{})}
	var running sync.WaitGroup
	for request := range requests {
		chosen := s.run != nil
		ok := s.handle(request)
		if request.WantReply {
			_ = request.Reply(ok, nil)
		}
		if !chosen && s.run != nil { // only now: the reply comes before the first output
			running.Go(s.run)
		}
	}
	s.hangUp()
	running.Wait()
	_ = channel.Close()
	if s.terminal != nil {
		s.terminal.close()
	}
	if s.agent != nil {
		s.agent.close()
	}
}

// handle acts on one request (RFC 4254, section 6) and says whether it was understood and allowed.
func (s *session) handle(request *ssh.Request) bool {
	switch request.Type {
	case "env":
		return s.setVariable(request.Payload)
	case "pty-req":
		return s.openTerminal(request.Payload)
	case "window-change":
		return s.resizeTerminal(request.Payload)
	case "signal":
		return s.signal(request.Payload)
	case "auth-agent-req@openssh.com":
		return s.forwardAgent()
	case "shell":
		return s.choose(func() { s.runProgram("") })
	case "exec":
		var payload struct{ Command string }
		if ssh.Unmarshal(request.Payload, &payload) != nil {
			return false
		}
		return s.choose(func() { s.runProgram(payload.Command) })
	case "subsystem":
		var payload struct{ Name string }
		if ssh.Unmarshal(request.Payload, &payload) != nil {
			return false
		}
		return s.chooseSubsystem(payload.Name)
	}
	return false
}

func (s *session) choose(run func()) bool {
	if s.run != nil {
		return false
	}
	s.run = run
	return true
}

func (s *session) chooseSubsystem(name string) bool {
	switch workload := s.connection.server.config.Workload; {
	case name == "sftp":
		return s.choose(s.runSFTP)
	case name == "attach" && workload != nil:
		s.attached = true
		return s.choose(func() {
			status, err := workload.Attach(s.channel, s.channel, s.channel.Stderr(), s.left)
			if err != nil {
				s.fail(exitCannotRun, err)
				return
			}
			s.sendExit(status)
		})
	}
	handler, ok := s.connection.server.config.Subsystems[name]
	if !ok {
		return false
	}
	return s.choose(func() {
		handler(s.channel)
		s.sendExit(reaper.Status{})
	})
}

func (s *session) setVariable(payload []byte) bool {
	var variable struct{ Name, Value string }
	if ssh.Unmarshal(payload, &variable) != nil || variable.Name == "" || len(s.env) >= maxEnvironment {
		return false
	}
	if s.connection.server.config.Trusted {
		switch variable.Name {
		case userVariable:
			s.account, s.refusal = passwd.Lookup(s.connection.server.config.Root, variable.Value)
			return true // the reason is worth more on stderr than a refused request
		case workingDirVariable:
			s.workingDir = variable.Value
			return true
		}
	}
	s.env = append(s.env, variable.Name+"="+variable.Value)
	return true
}

func (s *session) signal(payload []byte) bool {
	var message struct{ Name string }
	if ssh.Unmarshal(payload, &message) != nil {
		return false
	}
	number := unix.SignalNum("SIG" + message.Name)
	if number == 0 {
		return false
	}
	s.mutex.Lock()
	process := s.process
	s.mutex.Unlock()
	return process != nil && process.SignalGroup(number) == nil
}

// hangUp tells the program that its user has gone, as the loss of a terminal would. One that ignores SIGHUP stays.
func (s *session) hangUp() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.gone = true
	close(s.left)
	if s.process != nil {
		_ = s.process.SignalGroup(unix.SIGHUP)
	}
	if s.terminal != nil {
		_ = s.terminal.master.Close()
	}
}

// runProgram runs a command, or the account's shell where it is empty, and reports how it ended.
func (s *session) runProgram(command string) {
	if s.refusal != nil {
		s.fail(exitCannotRun, s.refusal)
		return
	}
	program, code, err := s.resolve(command)
	if err != nil {
		s.fail(code, err)
		return
	}
	var status reaper.Status
	if s.terminal != nil {
		status, err = s.runOnTerminal(program)
	} else {
		status, err = s.runOnPipes(program)
	}
	if err != nil {
		s.fail(exitCannotRun, fmt.Errorf("cannot run %s: %w", program.Path, errors.Unwrap(err)))
		return
	}
	s.sendExit(status)
}

// start starts the program in a session and process group of its own.
func (s *session) start(program reaper.Command) (*reaper.Process, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	program.Inside = s.connection.server.config.Place()
	process, err := s.connection.server.config.Reaper.Start(program)
	if err != nil {
		return nil, err
	}
	s.process = process
	if s.gone {
		_ = process.SignalGroup(unix.SIGHUP)
	}
	return process, nil
}

func (s *session) runOnPipes(program reaper.Command) (reaper.Status, error) {
	var ours, theirs [3]*os.File
	closeAll := func(files []*os.File) {
		for _, file := range files {
			if file != nil {
				_ = file.Close()
			}
		}
	}
	defer func() { closeAll(ours[:]) }()
	for index := range ours {
		reader, writer, err := os.Pipe()
		if err != nil {
			closeAll(theirs[:])
			return reaper.Status{}, &os.PathError{Op: "pipe", Path: program.Path, Err: err}
		}
		ours[index], theirs[index] = reader, writer
		if index == 0 {
			ours[index], theirs[index] = writer, reader
		}
	}
	program.Files = theirs[:]
	process, err := s.start(program)
	closeAll(theirs[:])
	if err != nil {
		return reaper.Status{}, err
	}
	go func() {
		copyInput(ours[0], s.channel)
		_ = ours[0].Close()
	}()
	var copying sync.WaitGroup
	copying.Go(func() { copyOutput(s.channel, ours[1], process.Done()) })
	copying.Go(func() { copyOutput(s.channel.Stderr(), ours[2], process.Done()) })
	status := process.Wait()
	for _, output := range ours[1:] {
		_ = output.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	copying.Wait()
	return status, nil
}

func copyInput(program *os.File, client io.Reader) {
	buffer := make([]byte, copyBytes)
	for {
		count, err := client.Read(buffer)
		if count > 0 {
			if _, err := program.Write(buffer[:count]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// copyOutput copies until end-of-file, or, once the program has ended, until nothing more comes for a moment. When
// the client no longer takes it, the pipe is closed and the program learns by SIGPIPE.
func copyOutput(client io.Writer, program *os.File, ended <-chan struct{}) {
	buffer := make([]byte, copyBytes)
	for {
		select {
		case <-ended:
			_ = program.SetReadDeadline(time.Now().Add(lingerTimeout))
		default:
		}
		count, err := program.Read(buffer)
		if count > 0 {
			if _, err := client.Write(buffer[:count]); err != nil {
				_ = program.Close()
				return
			}
		}
		if err != nil { // end-of-file, EIO of a terminal without a user, or the deadline
			return
		}
	}
}

// fail says on stderr why nothing ran, and ends the session with a shell's exit code for that.
func (s *session) fail(code int, err error) {
	_, _ = fmt.Fprintf(s.channel.Stderr(), "kestrel: %v%s", err, map[bool]string{true: "\r\n", false: "\n"}[s.terminal != nil])
	s.sendExit(reaper.Status{Code: code})
}

// sendExit reports the end of the program (RFC 4254, section 6.10) and closes the channel.
func (s *session) sendExit(status reaper.Status) {
	if status.Signal != 0 {
		message := struct {
			Name     string
			Core     bool
			Text     string
			Language string
		}{Name: signalName(status.Signal)}
		_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(&message))
	} else {
		_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(&struct{ Code uint32 }{uint32(status.Code)}))
	}
	_ = s.channel.Close()
}

// signalName is the name without SIG, as the protocol has it.
func signalName(number syscall.Signal) string {
	name := reaper.SignalName(number)
	if len(name) > 3 && name[:3] == "SIG" {
		return name[3:]
	}
	return fmt.Sprintf("%d@volant", int(number))
}
