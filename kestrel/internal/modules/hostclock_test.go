// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhoRunsOnKVM(t *testing.T) {
	path := filepath.Join(t.TempDir(), "available_clocksource")
	for said, wanted := range map[string]bool{"kvm-clock tsc acpi_pm \n": true, "tsc hpet acpi_pm \n": false} {
		if err := os.WriteFile(path, []byte(said), 0o600); err != nil {
			t.Fatal(err)
		}
		if found := runsOnKVM(path); found != wanted {
			t.Errorf("%q: %v", said, found)
		}
	}
	if runsOnKVM(path + "-gone") {
		t.Error("a guest without a clock source runs on KVM")
	}
}
