// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A FIFO that is only read behaves as the port does: a read gives end-of-file while no writer is there, and data again
// when one has come.
func listenFIFO(t *testing.T) (port *Port, path string) {
	t.Helper()
	folder := t.TempDir()
	path = filepath.Join(folder, "vport1p7")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"vport0p1": "other\n", "vport1p7": "volant.control.0\n"} {
		if err := os.MkdirAll(filepath.Join(folder, "ports", name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "ports", name, "name"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	port = ListenPort("volant.control.0")
	port.ports, port.dev = filepath.Join(folder, "ports"), folder
	port.opener = func(path string) (*device, error) {
		descriptor, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return newDevice(descriptor, path)
	}
	t.Cleanup(func() { _ = port.Close() })
	return port, path
}

func connect(t *testing.T, path string) *os.File {
	t.Helper()
	host, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	return host
}

func say(t *testing.T, host *os.File, text string) {
	t.Helper()
	if _, err := host.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func accept(t *testing.T, port *Port) net.Conn {
	t.Helper()
	conn, err := port.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q (%v), want %q", got, err, want)
	}
}

func TestHostsThatFollowEachOther(t *testing.T) {
	port, path := listenFIFO(t)
	for _, name := range []string{"first", "second", "third"} {
		go func() {
			host := connect(t, path)
			say(t, host, "SSH-2.0-"+name+"\r\n")
			say(t, host, "hello")
			_ = host.Close()
		}()
		conn := accept(t, port)
		expect(t, conn, "SSH-2.0-"+name+"\r\nhello")
		if count, err := conn.Read(make([]byte, 100)); err != io.EOF {
			t.Fatalf("after the host had gone: %d bytes, %v", count, err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed connection still writes: %v", err)
		}
	}
}

func TestAHostThatReplacesAnotherUnseen(t *testing.T) {
	port, path := listenFIFO(t)
	hosts := make(chan *os.File)
	go func() { hosts <- connect(t, path) }()
	accepted := make(chan net.Conn)
	go func() { accepted <- accept(t, port) }()
	host := <-hosts
	say(t, host, "SSH-2.0-old\r\n")
	conn := <-accepted
	expect(t, conn, "SSH-2.0-old\r\n")
	say(t, host, "cipher text")
	expect(t, conn, "cipher text")
	say(t, host, "SSH-2.0-new\r\n")
	if _, err := conn.Read(make([]byte, 8192)); err != io.EOF {
		t.Fatalf("the old connection goes on: %v", err)
	}
	_ = conn.Close()
	expect(t, accept(t, port), "SSH-2.0-new\r\n")
}

func TestWhatADeadConnectionLeftIsDropped(t *testing.T) {
	port, path := listenFIFO(t)
	hosts := make(chan *os.File)
	go func() { hosts <- connect(t, path) }()
	accepted := make(chan net.Conn)
	go func() { accepted <- accept(t, port) }()
	host := <-hosts
	say(t, host, "SSH-2.0-old\r\n")
	conn := <-accepted
	expect(t, conn, "SSH-2.0-old\r\n")
	say(t, host, "rest of a packet")
	_ = conn.Close()
	go func() { accepted <- accept(t, port) }()
	// A FIFO, unlike the port, joins what is written before it is read: the new host speaks until it is heard alone.
	for {
		say(t, host, "SSH-2.0-new\r\n")
		select {
		case conn := <-accepted:
			expect(t, conn, "SSH-2.0-new\r\n")
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func TestTheGreetingRepeatsTheHostsIdentification(t *testing.T) {
	for chunk, want := range map[string]string{
		"SSH-2.0-volant_1\r\nkey exchange": "\r\nkestrel greets SSH-2.0-volant_1\r\n",
		"SSH-2.0-bare\n":                   "\r\nkestrel greets SSH-2.0-bare\r\n",
		"SSH-":                             "\r\nkestrel greets SSH-\r\n",
	} {
		if got := string(greet([]byte(chunk))); got != want {
			t.Errorf("greeted %q with %q, want %q", chunk, got, want)
		}
	}
	if got := greet(bytes.Repeat([]byte("x"), 10000)); len(got) > 2*identificationLimit {
		t.Errorf("a host without a line end is greeted with %d bytes", len(got))
	}
}

func TestAnIdentificationInPiecesIsReadWhole(t *testing.T) {
	port, path := listenFIFO(t)
	go func() {
		host := connect(t, path)
		say(t, host, "SSH-2.0-")
		time.Sleep(50 * time.Millisecond)
		say(t, host, "slow\r\n")
	}()
	conn := accept(t, port)
	if got := string(conn.(*portConn).greeting); got != "\r\nkestrel greets SSH-2.0-slow\r\n" {
		t.Errorf("the greeting is %q", got)
	}
	expect(t, conn, "SSH-2.0-slow\r\n")
}

func TestCloseEndsWhoeverWaits(t *testing.T) {
	port, path := listenFIFO(t)
	go func() { say(t, connect(t, path), "SSH-2.0-x\r\n") }()
	conn := accept(t, port)
	expect(t, conn, "SSH-2.0-x\r\n")
	reading := make(chan error)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		reading <- err
	}()
	accepting := make(chan error)
	go func() {
		_, err := port.Accept()
		accepting <- err
	}()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-reading; err == nil {
		t.Error("a read of a closed connection succeeded")
	}
	if err := port.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept of a closed listener: %v", err)
	}
}

func TestNoSuchPort(t *testing.T) {
	if path, found := findPort(t.TempDir(), "/dev", "x"); found {
		t.Errorf("found %s", path)
	}
	port := ListenPort("never there")
	port.ports = t.TempDir()
	ended := make(chan error)
	go func() {
		_, err := port.Accept()
		ended <- err
	}()
	_ = port.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
