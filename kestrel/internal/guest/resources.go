// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
)

// waiting are the files by which the kernel is told to make use of what came to the machine while it runs: which they
// are, what they say until then, and what is written (Documentation/core-api/cpu_hotplug.rst and
// Documentation/admin-guide/mm/memory-hotplug.rst there). Memory goes first: a processor needs some.
var waiting = []struct{ pattern, idle, wanted string }{
	{"memory/memory[0-9]*/state", "offline", "online"},
	{"cpu/cpu[0-9]*/online", "0", "1"},
}

// takeResources goes on after a failure, and tells all of them.
func takeResources(system string) error {
	var failures []error
	for _, kind := range waiting {
		paths, err := filepath.Glob(filepath.Join(system, kind.pattern))
		failures = append(failures, err)
		for _, path := range paths {
			said, err := os.ReadFile(path)
			if err == nil && string(bytes.TrimSpace(said)) == kind.idle {
				err = os.WriteFile(path, []byte(kind.wanted), 0)
			}
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
