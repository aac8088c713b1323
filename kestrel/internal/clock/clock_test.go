// SPDX-License-Identifier: Apache-2.0

package clock

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyTheHypervisorsClockIsFollowed(t *testing.T) {
	folder := t.TempDir()
	for name, label := range map[string]string{"ptp0": "virtio-net clock", "ptp1": "KVM virtual PTP"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name, "clock_name"), []byte(label+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := findPTP(folder, "/dev"); got != "/dev/ptp1" {
		t.Errorf("got %q", got)
	}
	if got := findPTP(t.TempDir(), "/dev"); got != "" {
		t.Errorf("got %q where there is none", got)
	}
}

func TestNoWordOfTheHostLeavesTheClock(t *testing.T) {
	if err := SetAtBoot(0); err != nil {
		t.Error(err)
	}
}
