// SPDX-License-Identifier: Apache-2.0

package boot

import "testing"

func TestATemplateLeavesTheDriversOfDisksAndCards(t *testing.T) {
	for name, want := range map[string]bool{
		"virtio_blk.ko": true, "virtio-net.ko": true, "net_failover.ko": false, "virtio.ko": false, "virtio_console.ko": false,
	} {
		if got := isOwnDriver(name); got != want {
			t.Errorf("isOwnDriver(%s) = %v", name, got)
		}
	}
}
