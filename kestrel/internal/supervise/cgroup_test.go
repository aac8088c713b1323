// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The file system of a folder stands in for cgroupfs; real ones are met in real guests.
func TestCgroupOfAProcess(t *testing.T) {
	root := t.TempDir()
	if none := openCgroupIn(root, "web"); none.directory != nil || none.members() != nil {
		t.Error("a folder without cgroup.procs was taken for a hierarchy")
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.procs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	group := openCgroupIn(root, "cgroup.procs") // a process may be called like a file of the kernel's
	if group.directory == nil {
		t.Fatal("no group was made")
	}
	if err := os.WriteFile(filepath.Join(group.folder, "cgroup.procs"), []byte("12\n345\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if members := group.members(); !slices.Equal(members, []int{12, 345}) {
		t.Errorf("members are %v", members)
	}
	group.kill()
	if text, err := os.ReadFile(filepath.Join(group.folder, "cgroup.kill")); err == nil && string(text) != "1" {
		t.Errorf("cgroup.kill got %q", text)
	}
	group.close()
	group.close()
	group.kill()
}
