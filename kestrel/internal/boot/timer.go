// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"os"
)

// timerFile names what wakes the first processor at a given time (Documentation/ABI/testing/sysfs-devices-system-cpu has
// its like; the kernel's kernel/time/clockevents.c makes it).
const timerFile = "/sys/devices/system/clockevents/clockevent0/current_device"

// hasTimer says whether there is any. QEMU's microvm has the processor's own alone, which the kernel compares with its
// clock for a tenth of a second at its start. An emulated processor that its host lets wait just then looks too slow,
// and the kernel goes on without: nothing in this guest would ever end that waits for a time. A kernel that does not
// tell has one.
func hasTimer(path string) bool {
	name, err := os.ReadFile(path)
	return err != nil || len(bytes.TrimSpace(name)) > 0
}
