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

// SFTPServerArgument is the agent's hidden first argument that makes it serve SFTP for an account other than root: file
// permissions can only be trusted to a process that runs as that account.
const SFTPServerArgument = "sftp-server"

// runSFTP serves root's files from this process, which costs no start, and other accounts' from a child.
func (s *session) runSFTP() {
	if s.refusal != nil {
		s.fail(exitCannotRun, s.refusal)
		return
	}
	if s.account.UID == uint32(os.Getuid()) {
		err := serveSFTP(s.channel, s.directory())
		if err != nil {
			s.connection.server.config.Logf("ssh: sftp ended: %v", err)
		}
		s.sendExit(reaper.Status{})
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

func serveSFTP(stream io.ReadWriter, folder string) error {
	// The allocator keeps a fixed set of packets instead of one of garbage for each.
	server, err := sftp.NewServer(keepOpen{stream}, sftp.WithServerWorkingDirectory(folder), sftp.WithAllocator())
	if err != nil {
		return err
	}
	err = server.Serve()
	_ = server.Close()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// keepOpen hides Close from the library, which closes its stream before the exit status could be sent on it.
type keepOpen struct{ io.ReadWriter }

func (keepOpen) Close() error { return nil }

// ServeSFTPOnStdio is what the hidden argument runs.
func ServeSFTPOnStdio() error {
	folder, err := os.Getwd()
	if err != nil {
		folder = "/"
	}
	return serveSFTP(struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout}, folder)
}
