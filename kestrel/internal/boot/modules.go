// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Modules that nothing needs before the workload starts: the control port waits for its driver, and a process that
// wants a vsock port waits for the port.
var portModules = []string{"virtio_console"}

// The same, unless an address is asked for: that takes a random number, which a processor without an instruction for it
// has to wait for.
var entropyModules = []string{"virtio_rng"}

// The same, unless the host itself comes in by vsock: then the agent listens there first of all.
var vsockModules = []string{"vsock", "vmw_vsock_"}

// splitModules keeps the order within both halves. Folders of the host come by a port: whoever looks into one waits for it.
func splitModules(config *contract.GuestConfig) (early, later []string) {
	var prefixes []string
	if config.Folders == nil {
		prefixes = append(prefixes, portModules...)
	}
	if config.Control.Transport != "vsock" {
		prefixes = append(prefixes, vsockModules...)
	}
	if !slices.ContainsFunc(config.Network.Interfaces, func(card contract.Interface) bool { return card.Mode == "dhcp" }) {
		prefixes = append(prefixes, entropyModules...)
	}
	for _, name := range config.Modules {
		if hasPrefix(name, prefixes) {
			later = append(later, name)
		} else {
			early = append(early, name)
		}
	}
	return early, later
}

func hasPrefix(name string, prefixes []string) bool {
	plain := strings.ReplaceAll(filepath.Base(name), "-", "_")
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(plain, prefix) })
}

// load loads kernel modules in the order given. One that fails is a warning: whether the guest can do without it
// shows when the disk or the network it would have driven is looked for. What a template has loaded is left out.
func (a *bootArchive) load(names []string, warn func(string)) {
	for _, name := range names {
		if a.loaded[name] {
			continue
		}
		a.loaded[name] = true
		if err := a.loadModule(name); err != nil {
			warn(fmt.Sprintf("cannot load the kernel module %s: %v", name, err))
		}
	}
}

func (a *bootArchive) loadModule(name string) error {
	path := filepath.Join(filepath.Base(contract.ModulesFolder), name)
	file, err := unix.Openat(a.folder, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(file) }()
	err = unix.FinitModule(file, "", 0)
	_ = unix.Unlinkat(a.folder, path, 0) // its memory goes back once it is closed
	if errors.Is(err, unix.EEXIST) {     // built in, or loaded by an earlier name
		return nil
	}
	return err
}
