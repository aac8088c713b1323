// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Variables by which volantd chooses user and folder of a session (contract/agent.py).
const (
	userVariable       = "KESTREL_USER"
	workingDirVariable = "KESTREL_WORKING_DIR"
)

// Exit codes by which a shell says that it could not run a command.
const (
	exitCannotRun = 126
	exitNotFound  = 127
)

const (
	defaultShell = "/bin/sh"
	sshPort      = 22
)

// resolve says what a command means in this guest; the code goes with the error.
//
// The shell is not a login shell: /etc/profile of most distributions sets PATH anew, and with it would go what the
// image's ENV put there and the folder in which journalctl is found.
func (s *session) resolve(command string) (run reaper.Command, code int, err error) {
	env := s.environment()
	run = reaper.Command{
		Env:        env,
		Directory:  s.directory(),
		Attributes: &syscall.SysProcAttr{Setsid: true, Credential: s.credential()},
	}
	if s.workingDir != "" && !isDirectory(s.workingDir) {
		return run, exitCannotRun, fmt.Errorf("cannot run in %s: no such folder in this guest", s.workingDir)
	}
	shell := s.shell()
	switch {
	case shell != "" && command == "":
		run.Path, run.Arguments = shell, []string{filepath.Base(shell)}
		return run, 0, nil
	case shell != "":
		run.Path, run.Arguments = shell, []string{filepath.Base(shell), "-c", command}
		return run, 0, nil
	case command == "":
		return run, exitNotFound, errors.New("this image has no shell; name a program to run instead")
	}
	arguments, err := splitArguments(command)
	if err != nil {
		return run, exitNotFound, fmt.Errorf("this image has no shell, and without one %w", err)
	}
	path, err := program.Find(arguments[0], env, run.Directory)
	if err != nil {
		return run, exitNotFound, fmt.Errorf("%w (the image has no shell either)", err)
	}
	run.Path, run.Arguments = path, arguments
	return run, 0, nil
}

// shell is the account's own where it exists, else /bin/sh, else empty. volantd's sessions always get /bin/sh: a
// service account's nologin is meant for people.
func (s *session) shell() string {
	candidates := []string{s.account.Shell, defaultShell}
	if s.connection.server.config.Trusted {
		candidates = candidates[1:]
	}
	for _, shell := range candidates {
		if isProgram(shell) {
			return shell
		}
	}
	return ""
}

func (s *session) directory() string {
	for _, folder := range []string{s.workingDir, s.account.Home} {
		if folder != "" && isDirectory(folder) {
			return folder
		}
	}
	return "/"
}

func (s *session) credential() *syscall.Credential {
	if s.account.UID == 0 && os.Getuid() != 0 {
		return nil // a test server run by an ordinary user
	}
	if int(s.account.UID) == os.Getuid() && os.Getuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: s.account.UID, Gid: s.account.GID, Groups: s.account.Groups}
}

// environment is the VM's, then what belongs to the account, then what the client asked for.
func (s *session) environment() []string {
	own := []string{"HOME=" + s.account.Home, "USER=" + s.account.Name, "LOGNAME=" + s.account.Name}
	if shell := s.shell(); shell != "" {
		own = append(own, "SHELL="+shell)
	}
	own = append(own, s.describeConnection()...)
	if s.terminal != nil {
		own = append(own, "TERM="+s.terminal.name, "SSH_TTY="+s.terminal.path)
	}
	if s.agent != nil {
		own = append(own, "SSH_AUTH_SOCK="+s.agent.path)
	}
	return program.Merge(program.LeadPath(s.connection.server.config.Environment()), own, s.env)
}

// describeConnection is what sshd says of the connection. Every session has it, also one that came through the host
// and so from no address of its own: bash reads ~/.bashrc for a command only where SSH_CLIENT is set.
func (s *session) describeConnection() []string {
	remote, local := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sshPort}
	if address, ok := s.connection.conn.RemoteAddr().(*net.TCPAddr); ok {
		remote = *address
	}
	if address, ok := s.connection.conn.LocalAddr().(*net.TCPAddr); ok {
		local = *address
	}
	return []string{
		fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", remote.IP, remote.Port, local.IP, local.Port),
		fmt.Sprintf("SSH_CLIENT=%s %d %d", remote.IP, remote.Port, local.Port),
	}
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
