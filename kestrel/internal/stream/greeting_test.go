// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"io"
	"net"
	"path/filepath"
	"testing"
)

func listenGreeting(t *testing.T) (listener net.Listener, dial func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	plain, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() })
	return Greeting(plain), func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

func TestTheHostsLineIsRepeatedBeforeAnythingElse(t *testing.T) {
	listener, dial := listenGreeting(t)
	host := dial()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = conn.Write([]byte("SSH-2.0-kestrel\r\n"))
		_ = conn.Close()
	}()
	if _, err := host.Write([]byte("SSH-2.0-volant_1\r\nmore")); err != nil {
		t.Fatal(err)
	}
	heard, err := io.ReadAll(host)
	if want := "\r\nkestrel greets SSH-2.0-volant_1\r\nSSH-2.0-kestrel\r\n"; err != nil || string(heard) != want {
		t.Errorf("heard %q, %v", heard, err)
	}
}

func TestNothingOfWhatTheHostSaysIsLost(t *testing.T) {
	listener, dial := listenGreeting(t)
	host := dial()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, part := range []string{"SSH-2.0-vol", "ant_1\r\nmo", "re"} {
			_, _ = host.Write([]byte(part))
		}
		_ = host.(*net.UnixConn).CloseWrite()
	}()
	if heard, err := io.ReadAll(conn); err != nil || string(heard) != "SSH-2.0-volant_1\r\nmore" {
		t.Errorf("heard %q, %v", heard, err)
	}
}

func TestAHostThatGoesBeforeItHasSaidWhoItIsIsAnEnd(t *testing.T) {
	listener, dial := listenGreeting(t)
	_ = dial().Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("SSH-2.0-kestrel\r\n")); err == nil {
		t.Error("it was written to")
	}
	if _, err := conn.Read(make([]byte, 10)); err == nil {
		t.Error("it was read from")
	}
}
