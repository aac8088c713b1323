// SPDX-License-Identifier: Apache-2.0

package network

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

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

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestResolvConfIsWrittenWhateverLiesThere(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, root string){
		"missing, with its folder": func(*testing.T, string) {},
		"missing":                  func(t *testing.T, root string) { write(t, root+"/etc/passwd", "") },
		"empty":                    func(t *testing.T, root string) { write(t, root+"/etc/resolv.conf", "") },
		"another's":                func(t *testing.T, root string) { write(t, root+"/etc/resolv.conf", "nameserver 1.2.3.4\n") },
		"link that leads nowhere": func(t *testing.T, root string) {
			write(t, root+"/etc/passwd", "")
			symlink(t, "../run/systemd/resolve/stub-resolv.conf", root+"/etc/resolv.conf")
		},
		"link to a file": func(t *testing.T, root string) {
			write(t, root+"/etc/resolvconf/run", "old")
			symlink(t, "resolvconf/run", root+"/etc/resolv.conf")
		},
		"link whose target cannot be made": func(t *testing.T, root string) {
			write(t, root+"/etc/file", "where a folder would be")
			symlink(t, "file/resolv.conf", root+"/etc/resolv.conf")
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			prepare(t, root)
			names := Names{Root: root, Runtime: filepath.Join(root, "run/kestrel")}
			if err := names.put("etc/resolv.conf", []byte("nameserver 10.0.2.3\n")); err != nil {
				t.Fatal(err)
			}
			if got := read(t, root+"/etc/resolv.conf"); got != "nameserver 10.0.2.3\n" {
				t.Errorf("it reads %q", got)
			}
		})
	}
}

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatIsRightStaysUntouched(t *testing.T) {
	root := t.TempDir()
	path := root + "/etc/hostname"
	write(t, path, "web\n")
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(path)
	if err := (Names{Root: root}).put("etc/hostname", []byte("web\n")); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(path); !after.ModTime().Equal(before.ModTime()) {
		t.Error("it was written again")
	}
}

func TestHostsKeepWhatPeopleWrote(t *testing.T) {
	first := string(renderHosts([]byte("127.0.0.1 localhost\n192.0.2.7 printer"), "web.internal",
		map[string][]string{"192.168.127.101": {"db", "db.internal"}}, []string{"10.0.2.15/24"}))
	want := "127.0.0.1 localhost\n192.0.2.7 printer\n" +
		"# kestrel: begin (written at every boot)\n10.0.2.15 web.internal web\n192.168.127.101 db db.internal\n# kestrel: end\n"
	if first != want {
		t.Errorf("got %q, want %q", first, want)
	}
	again := string(renderHosts([]byte(first+"192.0.2.8 scanner\n"), "web", nil, nil))
	want = "127.0.0.1 localhost\n192.0.2.7 printer\n192.0.2.8 scanner\n" +
		"# kestrel: begin (written at every boot)\n127.0.1.1 web\n# kestrel: end\n"
	if again != want {
		t.Errorf("got %q, want %q", again, want)
	}
}

func TestEmptyHostsGetLoopback(t *testing.T) {
	got := string(renderHosts(nil, "web", nil, []string{"10.0.2.15/24"}))
	want := "# kestrel: begin (written at every boot)\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" +
		"10.0.2.15 web\n# kestrel: end\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResolvConfHasSearchDomains(t *testing.T) {
	got := string(renderResolvConf(Resolvers{Nameservers: []string{"10.0.2.3", "fec0::3"}, Search: []string{"a", "b"}}))
	if want := "search a b\nnameserver 10.0.2.3\nnameserver fec0::3\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// onReadOnlyRoot makes a file system that cannot be written, on a thread with mounts of its own that is thrown away.
func onReadOnlyRoot(t *testing.T, fill func(root string)) Names {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		runtime.UnlockOSThread()
		t.Skipf("needs a mount namespace: %v", err)
	}
	root, volatile := t.TempDir(), t.TempDir()
	mount := func(fstype, target string, flags uintptr) {
		if err := unix.Mount(fstype, target, fstype, flags, ""); err != nil {
			t.Skipf("needs to mount: %v", err)
		}
	}
	mount("", "/", unix.MS_REC|unix.MS_PRIVATE)
	mount("tmpfs", root, 0)
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	fill(root)
	mount("", root, unix.MS_REMOUNT|unix.MS_RDONLY)
	return Names{Root: root, Runtime: filepath.Join(volatile, "kestrel")}
}

func TestAReadOnlyFolderGetsTheFilesThatItLacks(t *testing.T) {
	names := onReadOnlyRoot(t, func(root string) {
		write(t, root+"/etc/hosts", "as it was\n")
		write(t, root+"/etc/ssl/key", "secret")
		if err := os.Chmod(root+"/etc/ssl/key", 0o600); err != nil {
			t.Fatal(err)
		}
		symlink(t, "../lib/resolv.conf", root+"/etc/resolv.conf")
		write(t, root+"/lib/other", "")
	})
	for _, content := range []string{"first\n", "second\n"} {
		for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
			if err := names.put("etc/"+name, []byte(content)); err != nil {
				t.Fatal(err)
			}
			if got := read(t, names.Root+"/etc/"+name); got != content {
				t.Errorf("%s reads %q", name, got)
			}
		}
	}
	if info, err := os.Stat(names.Root + "/etc/ssl/key"); err != nil || info.Mode() != 0o600 {
		t.Errorf("the key is %v, %v", info, err)
	}
}

func TestAVolumeBelowAReadOnlyFolderIsNotHidden(t *testing.T) {
	names := onReadOnlyRoot(t, func(root string) {
		write(t, root+"/etc/data/empty", "")
		if err := unix.Mount("tmpfs", root+"/etc/data", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		write(t, root+"/etc/data/file", "of the volume")
	})
	err := names.put("etc/hosts", nil)
	if err == nil || !strings.Contains(err.Error(), "/etc/data is a mount of its own") {
		t.Errorf("error is %v", err)
	}
	if got := read(t, names.Root+"/etc/data/file"); got != "of the volume" {
		t.Errorf("it reads %q", got)
	}
}
