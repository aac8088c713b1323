// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/control"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/passwd"
	"github.com/volantvm/volant/kestrel/internal/power"
	"github.com/volantvm/volant/kestrel/internal/sshd"
	"github.com/volantvm/volant/kestrel/internal/stream"
	"github.com/volantvm/volant/kestrel/internal/vsock"
)

// Where distributions keep their own SSH server. Where an image has one, port 22 is the image's business.
var ownServers = []string{"/usr/sbin/sshd", "/usr/sbin/dropbear", "/usr/bin/dropbear"}

// openDoors serves SSH to the host, to people's sessions that come through the host, and to the network where a key
// for that is known.
func (g *Guest) openDoors() {
	signer, err := makeSigner(g.config.Control.HostKey)
	if err != nil {
		g.journal.Warn(fmt.Sprintf("cannot serve SSH: the host key of guest.json is of no use: %v", err))
		return
	}
	g.hostKey.Set(signer)
	g.journal.WarnError(g.openControl())
	g.journal.WarnError(g.openSessions())
	close(g.doorsOpen)
	g.openNetwork()
}

// makeSigner reads a host key. A guest that nobody has given one, as where no volantd knows it, makes its own.
func makeSigner(key string) (ssh.Signer, error) {
	if key != "" {
		return ssh.ParsePrivateKey([]byte(key))
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromSigner(private)
}

func (g *Guest) doorConfig(accept func(passwd.Account, ssh.PublicKey) bool) sshd.Config {
	return sshd.Config{
		Reaper:        g.children,
		HostKey:       g.hostKey,
		Accept:        accept,
		Environment:   g.supervisor.Environment,
		Place:         g.supervisor.Place,
		WorkloadHosts: workloadHosts,
		RuntimeFolder: contract.RuntimeFolder,
		SFTPCommand:   []string{contract.RunningAgent, sshd.SFTPServerArgument},
		Logf:          g.journal.Say,
	}
}

// openControl is the host's door.
func (g *Guest) openControl() error {
	if err := g.admitHost(g.config.Control.AuthorizedKeys); err != nil {
		return err
	}
	config := g.doorConfig(func(_ passwd.Account, key ssh.PublicKey) bool { return g.hostsKeys.Contains(key) })
	config.Trusted = true
	config.ListenSecret = g.secrets.Listen
	config.Workload = g.supervisor
	config.Subsystems = map[string]func(io.ReadWriteCloser){
		"control": func(stream io.ReadWriteCloser) { _ = control.Serve(stream, g) },
	}
	if g.config.Control.Transport == "vsock" {
		listener, err := vsock.Listen(g.config.Control.VsockPort)
		if err != nil {
			return fmt.Errorf("cannot serve the host: %w", err)
		}
		serveDoor(sshd.New(config), stream.Greeting(listener))
		return nil
	}
	if g.port == nil {
		g.port = stream.ListenPort(g.config.Control.PortName)
	}
	g.port.OnSettings(g.takeSettings)
	serveDoor(sshd.New(config), g.port)
	return nil
}

// admitHost lets the host in by these keys and no others.
func (g *Guest) admitHost(keys []string) error {
	g.hostsKeys.Clear()
	for _, key := range keys {
		if err := g.hostsKeys.Add(key); err != nil {
			return fmt.Errorf("cannot let the host in by one of its keys: %w", err)
		}
	}
	return nil
}

// openSessions is the door of `volar vms ssh`, by keys that the host authorizes for a while.
func (g *Guest) openSessions() error {
	g.admitPeople(g.config.SSH.AuthorizedKeys)
	if err := os.MkdirAll(contract.RuntimeFolder, 0o755); err != nil {
		return fmt.Errorf("cannot serve sessions: %w", err)
	}
	_ = os.Remove(contract.SessionSocket)
	listener, err := net.Listen("unix", contract.SessionSocket)
	if err == nil {
		err = os.Chmod(contract.SessionSocket, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot serve sessions: %w", err)
	}
	serveDoor(sshd.New(g.doorConfig(g.acceptPerson)), listener)
	return nil
}

// admitPeople lets people in by the keys given for this VM.
func (g *Guest) admitPeople(keys []string) {
	for _, key := range keys {
		if err := g.keys.Add(key); err != nil {
			g.journal.Warn(fmt.Sprintf("cannot use an SSH key given for this VM: %v", err))
		}
	}
}

// openNetwork opens the door on the network, once: off unless somebody has a key for it (given for this VM, or by
// user-data) and the image has no server of its own.
func (g *Guest) openNetwork() {
	<-g.doorsOpen
	settings := g.current.Load()
	port := settings.SSH.ListenPort
	if port == nil || len(settings.Network.Interfaces) == 0 || (g.keys.Permanent() == 0 && !g.cloudInit.HasKeys()) {
		return
	}
	for _, server := range ownServers {
		if _, err := os.Stat(server); err == nil {
			return
		}
	}
	g.networkDoor.Do(func() {
		listener, err := net.Listen("tcp", ":"+strconv.Itoa(*port))
		if err != nil {
			g.journal.Warn(fmt.Sprintf("cannot serve SSH on port %d: %v", *port, err))
			return
		}
		serveDoor(sshd.New(g.doorConfig(g.acceptPerson)), listener)
	})
}

func (g *Guest) acceptPerson(account passwd.Account, key ssh.PublicKey) bool {
	return g.keys.Contains(key) || sshd.AccountAccepts("", account, key)
}

func serveDoor(server *sshd.Server, listener net.Listener) {
	go func() {
		defer power.Guard()
		_ = server.Serve(listener)
	}()
}

// workloadHosts is where the workload may listen: loopback first, then the guest's own addresses.
func workloadHosts() []string {
	hosts := []string{"127.0.0.1", "::1"}
	for _, address := range network.Addresses() {
		host, _, _ := strings.Cut(address, "/")
		hosts = append(hosts, host)
	}
	return hosts
}
