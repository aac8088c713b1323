// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"encoding/binary"
	"os"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// terminal is the pseudo-terminal of a session.
type terminal struct {
	master *os.File
	slave  *os.File // until the program has it
	name   string   // TERM
	path   string
}

func (t *terminal) close() {
	_ = t.master.Close()
	if t.slave != nil {
		_ = t.slave.Close()
	}
}

func (t *terminal) resize(columns, rows, width, height uint32) error {
	return pty.Setsize(t.master, &pty.Winsize{
		Rows: uint16(rows), Cols: uint16(columns), X: uint16(width), Y: uint16(height),
	})
}

func (s *session) openTerminal(payload []byte) bool {
	var message struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ssh.Unmarshal(payload, &message) != nil || s.terminal != nil || s.run != nil {
		return false
	}
	master, slave, err := pty.Open()
	if err != nil {
		s.connection.server.config.Logf("ssh: cannot open a terminal: %v", err)
		return false
	}
	s.terminal = &terminal{master: master, slave: slave, name: message.Term, path: slave.Name()}
	_ = s.terminal.resize(message.Columns, message.Rows, message.Width, message.Height)
	_ = applyModes(slave, []byte(message.Modes))
	return true
}

func (s *session) resizeTerminal(payload []byte) bool {
	var message struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &message) != nil {
		return false
	}
	if s.attached {
		return s.connection.server.config.Workload.Resize(message.Columns, message.Rows) == nil
	}
	if s.terminal == nil {
		return false
	}
	return s.terminal.resize(message.Columns, message.Rows, message.Width, message.Height) == nil
}

func (s *session) runOnTerminal(program reaper.Command) (reaper.Status, error) {
	t := s.terminal
	// The program opens its own terminal by name now and then (ssh, sudo, screen), so it must own it.
	_ = t.slave.Chown(int(s.account.UID), int(s.account.GID))
	_ = t.slave.Chmod(0o620)
	program.Files = []*os.File{t.slave, t.slave, t.slave}
	program.Attributes.Setctty = true
	program.Attributes.Ctty = 0
	process, err := s.start(program)
	_ = t.slave.Close()
	t.slave = nil
	if err != nil {
		return reaper.Status{}, err
	}
	go copyInput(t.master, s.channel)
	copied := make(chan struct{})
	go func() {
		copyOutput(s.channel, t.master, process.Done())
		close(copied)
	}()
	status := process.Wait()
	_ = t.master.SetReadDeadline(time.Now().Add(lingerTimeout))
	<-copied
	return status, nil
}

// Opcodes of encoded terminal modes (RFC 4254, section 8) and where Linux keeps them.
var (
	modeCharacters = map[byte]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
		8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT,
		18: unix.VDISCARD,
	}
	modeInput = map[byte]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR,
		36: unix.ICRNL, 37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	}
	modeLocal = map[byte]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK,
		56: unix.ECHONL, 57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE,
		62: unix.PENDIN,
	}
	modeOutput = map[byte]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	}
)

// applyModes sets what the client's terminal is set to. Opcodes from 160 on have unknown arguments and end the list.
func applyModes(slave *os.File, modes []byte) error {
	raw, err := slave.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Control(func(descriptor uintptr) {
		settings, err := unix.IoctlGetTermios(int(descriptor), unix.TCGETS)
		if err != nil {
			result = err
			return
		}
		for len(modes) >= 5 && modes[0] != 0 && modes[0] < 160 {
			code, value := modes[0], binary.BigEndian.Uint32(modes[1:5])
			modes = modes[5:]
			if index, ok := modeCharacters[code]; ok {
				settings.Cc[index] = byte(value)
				if value == 255 { // "disabled" in the protocol
					settings.Cc[index] = 0
				}
			}
			setFlag(&settings.Iflag, modeInput[code], value)
			setFlag(&settings.Lflag, modeLocal[code], value)
			setFlag(&settings.Oflag, modeOutput[code], value)
		}
		result = unix.IoctlSetTermios(int(descriptor), unix.TCSETS, settings)
	})
	if err != nil {
		return err
	}
	return result
}

func setFlag(flags *uint32, flag, value uint32) {
	if value != 0 {
		*flags |= flag
	} else {
		*flags &^= flag
	}
}
