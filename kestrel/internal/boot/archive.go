// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// bootArchive is what the guest still needs of the initramfs after the root was switched: descriptors of the folder of
// modules and of the agent's own file.
type bootArchive struct {
	folder, agent int
	loaded        map[string]bool // modules
}

func openBootArchive() (*bootArchive, error) {
	folder, err := unix.Open(filepath.Dir(contract.ModulesFolder), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the boot archive: %w", err)
	}
	agent, err := unix.Open("/init", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the agent's own file: %w", err)
	}
	return &bootArchive{folder, agent, map[string]bool{}}, nil
}

// close takes the settings, which hold keys, out of the initramfs; in a plugin that lives in RAM it is the root.
func (a *bootArchive) close() {
	_ = unix.Unlinkat(a.folder, filepath.Base(contract.GuestConfigPath), 0)
	_ = unix.Close(a.folder)
	_ = unix.Close(a.agent)
}
