// SPDX-License-Identifier: Apache-2.0

package program

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	folder := t.TempDir()
	tool := write(t, filepath.Join(folder, "bin", "tool"), "", 0o755)
	write(t, filepath.Join(folder, "first", "tool"), "", 0o644)
	environment := []string{"PATH=/nowhere:" + filepath.Join(folder, "first") + ":" + filepath.Join(folder, "bin")}
	for name, directory := range map[string]string{"tool": "/", "./bin/tool": folder, tool: "/", "bin/tool": folder} {
		if path, err := Find(name, environment, directory); err != nil || path != tool {
			t.Errorf("%s in %s is %q (%v)", name, directory, path, err)
		}
	}
	for name, reason := range map[string]string{
		"": "no command", "other": "no such program in PATH", "/no/file": "no such file", folder: "it is a folder",
		filepath.Join(folder, "first", "tool"): "chmod +x",
	} {
		if _, err := Find(name, environment, "/"); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, want %q", name, err, reason)
		}
	}
}

func TestExplain(t *testing.T) {
	folder := t.TempDir()
	for content, reason := range map[string]string{
		"#!/no/shell -e\n": "its interpreter /no/shell is missing", "#!/bin/sh\r\n": "Windows line ends", "\x7fELF": "dynamic loader",
	} {
		path := write(t, filepath.Join(folder, "file"), content, 0o755)
		if err := Explain(path, unix.ENOENT); !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, want %q", content, err, reason)
		}
	}
	if err := Explain("/x", &os.PathError{Op: "exec", Path: "/x", Err: unix.E2BIG}); err.Error() != "cannot start /x: argument list too long" {
		t.Errorf("error is %v", err)
	}
}

func TestMergeAndPath(t *testing.T) {
	merged := Merge([]string{"A=1", "B=2", "bad"}, []string{"C=3", "A=4", "=x"}, []string{"B="})
	if !slices.Equal(merged, []string{"A=4", "B=", "C=3"}) {
		t.Errorf("merged is %q", merged)
	}
	for before, after := range map[string]string{
		"PATH=/bin":                  "PATH=/run/kestrel/bin:/bin",
		"PATH=/run/kestrel/bin:/bin": "PATH=/run/kestrel/bin:/bin",
		"PATH=":                      "PATH=/run/kestrel/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	} {
		if led := LeadPath([]string{before}); !slices.Equal(led, []string{after}) {
			t.Errorf("%s became %q", before, led)
		}
	}
}

func TestReadEnvironmentFile(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "environment"), `# written by cloud-init
DATABASE_URL=postgres://db.example.com/mydb?a=b
  export QUOTED="with blanks # and more"
SINGLE='it is' # a comment
PLAIN=value # a comment
EMPTY=
no assignment
=nothing
`, 0o600)
	want := []string{
		"DATABASE_URL=postgres://db.example.com/mydb?a=b", "QUOTED=with blanks # and more", "SINGLE=it is", "PLAIN=value", "EMPTY=",
	}
	if got := ReadEnvironmentFile(path); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := ReadEnvironmentFile("/no/such/file"); got != nil {
		t.Errorf("a missing file is %q", got)
	}
}

func TestFindIdentity(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "etc", "passwd"), "web:x:33:44::/srv:/bin/false\n", 0o600)
	write(t, filepath.Join(root, "etc", "group"), "web:x:44:\nextra:x:55:web\nother:x:66:\n", 0o600)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for spec, want := range map[string]struct {
		uid, gid uint32
		groups   []uint32
		home     string
	}{
		"":          {0, 0, nil, "/root"},
		"web":       {33, 44, []uint32{55}, "/srv"},
		"33":        {33, 44, []uint32{55}, "/srv"},
		"web:other": {33, 66, nil, "/srv"},
		"1234:5678": {1234, 5678, nil, "/"},
		"web:":      {33, 44, []uint32{55}, "/srv"},
	} {
		identity, err := FindIdentity(root, spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
			continue
		}
		got := identity.Credential
		if got.Uid != want.uid || got.Gid != want.gid || !slices.Equal(got.Groups, want.groups) || identity.Account.Home != want.home {
			t.Errorf("%q is %+v, home %s", spec, got, identity.Account.Home)
		}
	}
	for spec, want := range map[string][]uint32{"web": {55, 77, 88}, "web:other": {77, 88}, "1234": {77, 88}} {
		if identity, err := FindIdentity(root, spec, 77, 88); err != nil || !slices.Equal(identity.Credential.Groups, want) {
			t.Errorf("%q with more groups is %+v, %v", spec, identity.Credential, err)
		}
	}
	for _, spec := range []string{"nobody-here", "web:nogroup-here"} {
		if _, err := FindIdentity(root, spec); err == nil {
			t.Errorf("%q was found", spec)
		}
	}
}
