// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/pkg/sftp"

	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// SFTPServerArgument is the agent's hidden first argument that makes it serve SFTP on stdin and stdout.
//
// A process of its own has the account's permissions and its home folder, against which a relative path counts (the
// library's own notion of a working folder would make relative symbolic links absolute), and takes the memory of a
// large transfer along when it ends.
const SFTPServerArgument = "sftp-server"

func (s *session) runSFTP() {
	if s.refusal != nil {
		s.fail(exitCannotRun, s.refusal)
		return
	}
	command := s.connection.server.config.SFTPCommand
	status, err := s.runOnPipes(reaper.Command{
		Path:       command[0],
		Arguments:  command,
		Env:        s.environment(),
		Directory:  s.directory(),
		Attributes: &syscall.SysProcAttr{Setsid: true, Credential: s.credential()},
	})
	if err != nil {
		s.fail(exitCannotRun, fmt.Errorf("cannot serve SFTP: %w", err))
		return
	}
	s.sendExit(status)
}

// ServeSFTPOnStdio is what the hidden argument runs.
func ServeSFTPOnStdio() error {
	stream := struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout}
	// The allocator keeps a fixed set of packets instead of one of garbage for each.
	server, err := sftp.NewServer(stream, sftp.WithAllocator())
	if err != nil {
		return err
	}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return nil
}
