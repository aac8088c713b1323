// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAMachineWithoutATimerIsKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "current_device")
	for text, wanted := range map[string]bool{"lapic\n": true, "\n": false, "": false} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if hasTimer(path) != wanted {
			t.Errorf("%q: %v", text, !wanted)
		}
	}
	if !hasTimer(filepath.Join(t.TempDir(), "nothing")) {
		t.Error("a kernel that does not tell has none")
	}
}
