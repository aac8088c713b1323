// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/volantvm/volant/kestrel/internal/contract"
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

const defaultShell = "/bin/sh"

// resolve says what a command means in this guest; the code goes with the error.
//
// The shell is not a login shell: /etc/profile of most distributions sets PATH anew, and with it would go what the
// image's ENV put there and the folder in which journalctl is found.
func (s *session) resolve(command string) (program reaper.Command, code int, err error) {
	env := s.environment()
	program = reaper.Command{
		Env:        env,
		Directory:  s.directory(),
		Attributes: &syscall.SysProcAttr{Setsid: true, Credential: s.credential()},
	}
	if s.workingDir != "" && !isDirectory(s.workingDir) {
		return program, exitCannotRun, fmt.Errorf("cannot run in %s: no such folder in this guest", s.workingDir)
	}
	shell := s.shell()
	switch {
	case shell != "" && command == "":
		program.Path, program.Arguments = shell, []string{filepath.Base(shell)}
		return program, 0, nil
	case shell != "":
		program.Path, program.Arguments = shell, []string{filepath.Base(shell), "-c", command}
		return program, 0, nil
	case command == "":
		return program, exitNotFound, errors.New("this image has no shell; name a program to run instead")
	}
	arguments, err := splitArguments(command)
	if err != nil {
		return program, exitNotFound, fmt.Errorf("this image has no shell, and without one %w", err)
	}
	path, err := findProgram(arguments[0], program.Directory, env)
	if err != nil {
		return program, exitNotFound, fmt.Errorf("%w (the image has no shell either)", err)
	}
	program.Path, program.Arguments = path, arguments
	return program, 0, nil
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
	env := newEnvironment(s.connection.server.config.Environment())
	path := env.get("PATH")
	if path == "" {
		path = contract.DefaultPath
	}
	if path != contract.BinFolder && !strings.HasPrefix(path, contract.BinFolder+":") {
		path = contract.BinFolder + ":" + path
	}
	env.set("PATH", path)
	env.set("HOME", s.account.Home)
	env.set("USER", s.account.Name)
	env.set("LOGNAME", s.account.Name)
	if shell := s.shell(); shell != "" {
		env.set("SHELL", shell)
	}
	if remote, ok := s.connection.conn.RemoteAddr().(*net.TCPAddr); ok {
		if local, ok := s.connection.conn.LocalAddr().(*net.TCPAddr); ok {
			env.set("SSH_CONNECTION", fmt.Sprintf("%s %d %s %d", remote.IP, remote.Port, local.IP, local.Port))
			env.set("SSH_CLIENT", fmt.Sprintf("%s %d %d", remote.IP, remote.Port, local.Port))
		}
	}
	if s.terminal != nil {
		env.set("TERM", s.terminal.name)
		env.set("SSH_TTY", s.terminal.path)
	}
	if s.agent != nil {
		env.set("SSH_AUTH_SOCK", s.agent.path)
	}
	for _, variable := range s.env {
		name, value, _ := strings.Cut(variable, "=")
		env.set(name, value)
	}
	return env.list()
}

// environment keeps variables in the order in which they were first set.
type environment struct {
	names  []string
	values map[string]string
}

func newEnvironment(variables []string) *environment {
	env := &environment{values: make(map[string]string)}
	for _, variable := range variables {
		if name, value, ok := strings.Cut(variable, "="); ok {
			env.set(name, value)
		}
	}
	return env
}

func (e *environment) get(name string) string { return e.values[name] }

func (e *environment) set(name, value string) {
	if strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0) {
		return // exec would refuse the whole environment
	}
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	variables := make([]string, 0, len(e.names))
	for _, name := range e.names {
		variables = append(variables, name+"="+e.values[name])
	}
	return variables
}

// findProgram looks a program up in the PATH of the session, not of the agent.
func findProgram(name, directory string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(directory, path)
		}
		if isProgram(path) {
			return path, nil
		}
		return "", fmt.Errorf("cannot find program %s in this guest", name)
	}
	for _, folder := range filepath.SplitList(newEnvironment(env).get("PATH")) {
		if path := filepath.Join(folder, name); filepath.IsAbs(path) && isProgram(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot find program %s in the PATH of this guest", name)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
