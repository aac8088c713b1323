// SPDX-License-Identifier: Apache-2.0

package placed

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

func TestFilesAreMountedOverTheirPaths(t *testing.T) {
	root := enterMountNamespace(t)
	config, secret := filepath.Join(root, "etc/app.conf"), filepath.Join(root, "run/secrets/key")
	if err := os.MkdirAll(filepath.Dir(config), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte("the image's"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := []contract.File{
		{Path: config, ContentBase64: base64.StdEncoding.EncodeToString([]byte("ours")), Mode: 0o440},
		{Path: secret, SecretPort: new(uint32(9101)), Mode: 0o400, UID: 33, GID: 34},
	}
	fetch := func(_ context.Context, port uint32) ([]byte, error) {
		if port != 9101 {
			t.Errorf("port %d is asked", port)
		}
		return []byte("geheim"), nil
	}
	if err := Place(t.Context(), files, filepath.Join(root, "files"), filepath.Join(root, "disk"), fetch); err != nil {
		t.Fatal(err)
	}
	expect(t, config, "ours", 0o440, 0, 0)
	expect(t, secret, "geheim", 0o400, 33, 34)
	for _, path := range []string{config, secret} {
		if err := unix.Unmount(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, config, "the image's", 0o644, 0, 0)
	expect(t, secret, "", 0o644, 0, 0) // nothing of it has reached the disk
}

func TestFoldersAreEmptyAndThoseOfTheDiskStay(t *testing.T) {
	root := enterMountNamespace(t)
	scratch, fast := filepath.Join(root, "var/scratch"), filepath.Join(root, "var/fast")
	inside, deep := filepath.Join(scratch, "app.conf"), filepath.Join(fast, "some/where/token")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(scratch, "of-the-image"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	files := []contract.File{
		{Path: scratch, Kind: contract.FolderOfDisk, Mode: 0o2777, UID: 33, GID: 34},
		{Path: fast, Kind: contract.FolderInMemory, Mode: 0o1777, UID: 35, GID: 36},
		{Path: inside, ContentBase64: base64.StdEncoding.EncodeToString([]byte("ours")), Mode: 0o440},
		{Path: deep, ContentBase64: base64.StdEncoding.EncodeToString([]byte("ours, too")), Mode: 0o400, UID: 37},
	}
	place := func() {
		t.Helper()
		if err := Place(t.Context(), files, filepath.Join(root, "files"), filepath.Join(root, "disk"), nil); err != nil {
			t.Fatal(err)
		}
	}
	place()
	expectFolder(t, scratch, 0o2777, 33, 34, "app.conf")
	expectFolder(t, fast, 0o1777, 35, 36, "some")
	expect(t, inside, "ours", 0o440, 0, 0)
	expect(t, deep, "ours, too", 0o400, 37, 0)
	if err := os.Rename(deep, deep+".old"); err != nil {
		t.Error(err) // what is mounted cannot be
	}
	if kind := kindOf(t, fast); kind != unix.TMPFS_MAGIC {
		t.Errorf("memory is a file system of kind %x", kind)
	}
	for _, path := range []string{filepath.Join(scratch, "stays"), filepath.Join(fast, "goes")} {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// As in a guest that was started again: what was mounted is not there.
	for _, path := range []string{inside, scratch, fast} {
		if err := unix.Unmount(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	expectFolder(t, scratch, 0o755, 0, 0, "of-the-image")
	place()
	expectFolder(t, scratch, 0o2777, 33, 34, "app.conf", "stays")
	expectFolder(t, fast, 0o1777, 35, 36, "some")
}

func expectFolder(t *testing.T, path string, mode, uid, gid uint32, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	var status unix.Stat_t
	if err := unix.Stat(path, &status); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, names) || status.Mode&0o7777 != mode || status.Uid != uid || status.Gid != gid {
		t.Errorf("%s: %q, mode %o, owner %d:%d", path, found, status.Mode&0o7777, status.Uid, status.Gid)
	}
}

func kindOf(t *testing.T, path string) int64 {
	t.Helper()
	var status unix.Statfs_t
	if err := unix.Statfs(path, &status); err != nil {
		t.Fatal(err)
	}
	return int64(status.Type)
}

func TestAFileThatCannotBePlacedIsNamed(t *testing.T) {
	root := t.TempDir()
	for name, file := range map[string]contract.File{
		"no base64":        {Path: filepath.Join(root, "one"), ContentBase64: "*"},
		"the host is gone": {Path: filepath.Join(root, "two"), SecretPort: new(uint32(1))},
		"not a directory":  {Path: "/proc/version/three"},
	} {
		fetch := func(context.Context, uint32) ([]byte, error) { return nil, errors.New("the host is gone") }
		err := Place(t.Context(), []contract.File{file}, filepath.Join(root, "files"), filepath.Join(root, "disk"), fetch)
		if err == nil || !strings.Contains(err.Error(), file.Path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func expect(t *testing.T, path, content string, mode os.FileMode, uid, gid uint32) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var status unix.Stat_t
	if err := unix.Stat(path, &status); err != nil {
		t.Fatal(err)
	}
	if string(data) != content || os.FileMode(status.Mode&0o777) != mode || status.Uid != uid || status.Gid != gid {
		t.Errorf("%s: %q, mode %o, owner %d:%d", path, data, status.Mode&0o777, status.Uid, status.Gid)
	}
}

// enterMountNamespace gives the test mounts of its own, and returns a folder in a file system of that namespace.
func enterMountNamespace(t *testing.T) string {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("mounts of our own need root: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	return root
}
