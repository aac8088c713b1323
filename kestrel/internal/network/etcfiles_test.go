// SPDX-License-Identifier: Apache-2.0

package network

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func readEtc(t *testing.T, root, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "etc", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestWhatAnImageLacksIsFilledIn(t *testing.T) {
	root := t.TempDir()
	names := Names{Root: root, Runtime: t.TempDir()}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := names.FillEtc("vm-1"); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(root, "etc/mtab")); err != nil || target != "../proc/self/mounts" {
		t.Errorf("mtab leads to %q (%v)", target, err)
	}
	first := readEtc(t, root, "machine-id")
	if !regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n$`).MatchString(first) {
		t.Errorf("the machine-id is %q", first)
	}
	if makeMachineID("vm-1")+"\n" != first || makeMachineID("vm-2")+"\n" == first {
		t.Error("the machine-id is not the VM's")
	}
}

func TestWhatAnImageHasStays(t *testing.T) {
	root := t.TempDir()
	names := Names{Root: root, Runtime: t.TempDir()}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	image := map[string]string{"mtab": "/dev/vda / ext4 rw 0 0\n", "machine-id": "uninitialized\n"}
	for name, content := range image {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := names.FillEtc("vm-1"); err != nil {
		t.Fatal(err)
	}
	for name, content := range image {
		if got := readEtc(t, root, name); got != content {
			t.Errorf("%s became %q", name, got)
		}
	}
	// An empty one is what image builders leave when they take the builder's own away.
	if err := os.WriteFile(filepath.Join(root, "etc/machine-id"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := names.FillEtc("vm-1"); err != nil || readEtc(t, root, "machine-id") != makeMachineID("vm-1")+"\n" {
		t.Errorf("an empty machine-id stays: %v", err)
	}
}
