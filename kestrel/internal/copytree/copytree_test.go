// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAFolderIsCopiedWithEverything(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	write(t, source+"/postgresql/note", "kept")
	write(t, source+"/tool", "x")
	if err := os.Chmod(source+"/postgresql", 0o775|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(source+"/tool", 0o4711); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("postgresql/note", source+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(source+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(socket) }()
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: source + "/socket"}); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1234567890, 0)
	for _, name := range []string{"/postgresql/note", "/postgresql"} {
		if err := os.Chtimes(source+name, when, when); err != nil {
			t.Fatal(err)
		}
	}

	if err := Content(source, target); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]uint32{
		"postgresql": unix.S_IFDIR | 0o2775, "tool": unix.S_IFREG | 0o4711, "pipe": unix.S_IFIFO | 0o600,
		"postgresql/note": unix.S_IFREG | 0o644,
	} {
		info, err := os.Lstat(filepath.Join(target, name))
		if err != nil || info.Sys().(*syscall.Stat_t).Mode != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if info, err := os.Stat(target + "/postgresql"); err != nil || !info.ModTime().Equal(when) {
		t.Errorf("the folder's time is %v (%v)", info.ModTime(), err)
	}
	if link, err := os.Readlink(target + "/link"); err != nil || link != "postgresql/note" {
		t.Errorf("the link is %q, %v", link, err)
	}
	if _, err := os.Lstat(target + "/socket"); !os.IsNotExist(err) {
		t.Error("a dead socket was copied")
	}
}
