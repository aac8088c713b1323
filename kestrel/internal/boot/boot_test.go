// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"slices"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

func TestModulesThatNobodyWaitsForComeLater(t *testing.T) {
	early, later := splitModules(&contract.GuestConfig{Modules: []string{
		"virtio_ring.ko", "virtio_blk.ko", "virtio_console.ko", "virtio-rng.ko", "net/virtio_net.ko", "vsock.ko",
		"vmw_vsock_virtio_transport_common.ko", "vsock_loopback.ko",
	}})
	if want := []string{"virtio_ring.ko", "virtio_blk.ko", "net/virtio_net.ko"}; !slices.Equal(early, want) {
		t.Errorf("early are %v", early)
	}
	if len(later) != 5 || later[0] != "virtio_console.ko" || later[4] != "vsock_loopback.ko" {
		t.Errorf("later are %v", later)
	}
}

func TestThePortIsThereForFoldersOfTheHost(t *testing.T) {
	early, later := splitModules(&contract.GuestConfig{Folders: &contract.HostFolders{}, Modules: []string{
		"virtio_console.ko", "virtio-rng.ko", "vsock.ko",
	}})
	if !slices.Equal(early, []string{"virtio_console.ko"}) || !slices.Equal(later, []string{"virtio-rng.ko", "vsock.ko"}) {
		t.Errorf("early are %v, later %v", early, later)
	}
}

func TestEntropyComesBeforeALeaseIsAskedFor(t *testing.T) {
	network := contract.GuestNetwork{Interfaces: []contract.Interface{{Mode: "dhcp"}}}
	early, later := splitModules(&contract.GuestConfig{Network: network, Modules: []string{
		"virtio_blk.ko", "virtio_console.ko", "virtio_rng.ko", "virtio_net.ko",
	}})
	if want := []string{"virtio_blk.ko", "virtio_rng.ko", "virtio_net.ko"}; !slices.Equal(early, want) || len(later) != 1 {
		t.Errorf("early are %v, later %v", early, later)
	}
}

func TestTheModulesOfTheHostsOwnWayInComeFirst(t *testing.T) {
	early, later := splitModules(&contract.GuestConfig{Control: contract.Control{Transport: "vsock"}, Modules: []string{
		"virtio_console.ko", "virtio_blk.ko", "vsock.ko", "vmw_vsock_virtio_transport.ko",
	}})
	if want := []string{"virtio_blk.ko", "vsock.ko", "vmw_vsock_virtio_transport.ko"}; !slices.Equal(early, want) {
		t.Errorf("early are %v", early)
	}
	if want := []string{"virtio_console.ko"}; !slices.Equal(later, want) {
		t.Errorf("later are %v", later)
	}
}
