// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// agentSocket leads from SSH_AUTH_SOCK in the guest to the client's own key agent.
type agentSocket struct {
	folder   string
	path     string
	listener net.Listener
}

func (a *agentSocket) close() {
	_ = a.listener.Close()
	_ = os.RemoveAll(a.folder)
}

// forwardAgent serves auth-agent-req@openssh.com: a socket in a folder that only the account can enter.
func (s *session) forwardAgent() bool {
	if s.agent != nil || s.run != nil {
		return false
	}
	agent, err := s.openAgentSocket()
	if err != nil {
		s.connection.server.config.Logf("ssh: cannot forward the agent: %v", err)
		return false
	}
	s.agent = agent
	go func() {
		for {
			conn, err := agent.listener.Accept()
			if err != nil {
				return
			}
			go s.connection.joinOpened("auth-agent@openssh.com", nil, conn)
		}
	}()
	return true
}

func (s *session) openAgentSocket() (*agentSocket, error) {
	folder, err := os.MkdirTemp(s.connection.server.config.RuntimeFolder, "agent-")
	if err != nil {
		return nil, err
	}
	agent := &agentSocket{folder: folder, path: filepath.Join(folder, "socket")}
	agent.listener, err = net.Listen("unix", agent.path)
	if err == nil && s.account.UID != uint32(os.Getuid()) {
		for _, path := range []string{agent.path, folder} {
			if err = os.Chown(path, int(s.account.UID), int(s.account.GID)); err != nil {
				_ = agent.listener.Close()
				break
			}
		}
	}
	if err != nil {
		_ = os.RemoveAll(folder)
		return nil, fmt.Errorf("cannot make %s: %w", agent.path, err)
	}
	return agent, nil
}
