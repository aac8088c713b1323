// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatCameToTheMachineIsUsed(t *testing.T) {
	system := t.TempDir()
	files := map[string][2]string{
		"cpu/cpu1/online":       {"1\n", "1\n"},
		"cpu/cpu2/online":       {"0\n", "1"},
		"memory/memory0/state":  {"online\n", "online\n"},
		"memory/memory40/state": {"offline\n", "online"},
		"cpu/cpufreq/online":    {"0\n", "0\n"},
	}
	for name, content := range files {
		path := filepath.Join(system, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content[0]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := takeResources(system); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if found, _ := os.ReadFile(filepath.Join(system, name)); string(found) != content[1] {
			t.Errorf("%s is %q, not %q", name, found, content[1])
		}
	}
}
