// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listenSocket is a port whose other end can be read, too, as QEMU's can.
func listenSocket(t *testing.T) (port *Port, host *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	host = os.NewFile(uintptr(pair[0]), "host")
	t.Cleanup(func() { _ = host.Close() })
	port, _ = listenFIFO(t)
	port.opener = func(path string) (*device, error) {
		if err := unix.SetNonblock(pair[1], true); err != nil {
			return nil, err
		}
		return newDevice(pair[1], filepath.Base(path))
	}
	return port, host
}

func expectAnswer(t *testing.T, host *os.File, want string) {
	t.Helper()
	buffer := make([]byte, len(want))
	for read := 0; read < len(buffer); {
		count, err := host.Read(buffer[read:])
		if err != nil {
			t.Fatal(err)
		}
		read += count
	}
	if string(buffer) != want {
		t.Fatalf("answered %q, want %q", buffer, want)
	}
}

func TestATemplateTakesSettingsAndServesSSHAfterwards(t *testing.T) {
	port, host := listenSocket(t)
	long := strings.Repeat("x", 3*chunkSize)
	var taken [][]byte
	done := make(chan error)
	go func() {
		done <- port.AwaitSettings(func(settings []byte) error {
			taken = append(taken, bytes.Clone(settings))
			if string(settings) != long {
				return errors.New("not these")
			}
			return nil
		})
	}()
	say(t, host, "VOLANT-SETTINGS probe 0\n")
	expectAnswer(t, host, "\r\nkestrel answers probe ok\r\n")
	say(t, host, "VOLANT-SETTINGS one 5\nwrong")
	expectAnswer(t, host, "\r\nkestrel answers one not these\r\n")
	say(t, host, "VOLANT-SETTINGS huge 99999999999\n")
	expectAnswer(t, host, "\r\nkestrel answers huge they are too long\r\n")
	say(t, host, "VOLANT-SETTINGS two 12288\n"+long[:5000])
	say(t, host, long[5000:])
	expectAnswer(t, host, "\r\nkestrel answers two ok\r\n")
	if err := <-done; err != nil || len(taken) != 2 {
		t.Fatalf("%v, %d taken", err, len(taken))
	}
	say(t, host, "VOLANT-SETTINGS late 2\n{}")
	go expectAnswerLater(t, host)
	conn := accept(t, port)
	defer func() { _ = conn.Close() }()
	expect(t, conn, "SSH-2.0-volant_1\r\n")
}

// expectAnswerLater reads that nobody takes settings any more, and goes on as an SSH client.
func expectAnswerLater(t *testing.T, host *os.File) {
	buffer := make([]byte, 4096)
	count, err := host.Read(buffer)
	if err != nil || !strings.Contains(string(buffer[:count]), "kestrel answers late this guest takes no settings now") {
		t.Errorf("answered %q (%v)", buffer[:count], err)
	}
	_, _ = host.WriteString("SSH-2.0-volant_1\r\n")
}

func TestSettingsInterruptAConnectionWhoseHostHasGone(t *testing.T) {
	port, host := listenSocket(t)
	say(t, host, "SSH-2.0-volant_1\r\n")
	conn := accept(t, port)
	expect(t, conn, "SSH-2.0-volant_1\r\n")
	port.OnSettings(func([]byte) error { return nil })
	say(t, host, "VOLANT-SETTINGS again 2\n{}")
	if count, err := conn.Read(make([]byte, 10)); err == nil {
		t.Fatalf("read %d bytes of what is not the connection's", count)
	}
	_ = conn.Close()
	go func() { _, _ = port.Accept() }()
	expectAnswer(t, host, "\r\nkestrel answers again ok\r\n")
}
