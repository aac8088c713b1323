// SPDX-License-Identifier: Apache-2.0

// Command testserver runs the agent's SSH server outside a guest, for the tests that use real clients.
//
// It prints "ready" once it listens and ends when its stdin does.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/volantvm/volant/kestrel/internal/control"
	"github.com/volantvm/volant/kestrel/internal/control/controltest"
	"github.com/volantvm/volant/kestrel/internal/passwd"
	"github.com/volantvm/volant/kestrel/internal/reaper"
	"github.com/volantvm/volant/kestrel/internal/sshd"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sshd.SFTPServerArgument {
		if err := sshd.ServeSFTPOnStdio(); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	network := flag.String("network", "unix", "unix or tcp")
	address := flag.String("address", "", "socket path, or host:port")
	hostKey := flag.String("host-key", "", "private key file")
	authorized := flag.String("authorized", "", "file of authorized keys")
	trusted := flag.Bool("trusted", false, "serve as the control stream does")
	runtimeFolder := flag.String("runtime-folder", os.TempDir(), "folder for sockets of forwarded agents")
	environment := flag.String("environment", "", "comma-separated NAME=value pairs: the VM's environment")
	flag.Parse()

	content, err := os.ReadFile(*hostKey)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return err
	}
	keys := sshd.NewKeys()
	lines, err := os.ReadFile(*authorized)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(lines)) {
		if err := keys.Add(line); err != nil {
			return err
		}
	}
	children, err := reaper.Start()
	if err != nil {
		return err
	}
	listener, err := net.Listen(*network, *address)
	if err != nil {
		return err
	}
	agent := controltest.New()
	agent.Log("first", "second")
	agent.Authorize = keys.Authorize
	server := sshd.New(sshd.Config{
		Reaper:  children,
		HostKey: sshd.NewHostKey(signer),
		Accept: func(account passwd.Account, key ssh.PublicKey) bool {
			return keys.Contains(key) || sshd.AccountAccepts("", account, key)
		},
		Trusted: *trusted,
		Subsystems: map[string]func(io.ReadWriteCloser){
			"control": func(stream io.ReadWriteCloser) { _ = control.Serve(stream, agent) },
		},
		ListenSecret: func(uint32) (net.Listener, error) { // a UNIX socket stands for the port
			return net.Listen("unix", *address+".secret")
		},
		RuntimeFolder: *runtimeFolder,
		Environment: func() []string {
			return strings.Split(*environment, ",")
		},
		Logf: log.Printf,
	})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	fmt.Println("ready", listener.Addr())
	return server.Serve(listener)
}
