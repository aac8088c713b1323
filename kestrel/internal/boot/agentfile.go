// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// answered are the commands that the agent answers itself, or hands to the image's own of that name.
var answered = []string{"journalctl", "modprobe", "socat"}

// installAgent puts the running agent where every guest has it and the commands that it answers in front of PATH, and
// tells the kernel by which program it gets modules.
func (a *bootArchive) installAgent() error {
	if err := os.MkdirAll(contract.BinFolder, 0o755); err != nil {
		return fmt.Errorf("cannot install the agent: %w", err)
	}
	if err := a.bindAgent(contract.RunningAgent); err != nil {
		return fmt.Errorf("cannot install the agent at %s: %w", contract.RunningAgent, err)
	}
	for _, name := range answered {
		if err := os.Symlink(contract.RunningAgent, filepath.Join(contract.BinFolder, name)); err != nil {
			return fmt.Errorf("cannot install %s: %w", name, err)
		}
	}
	_ = os.WriteFile("/proc/sys/kernel/modprobe", []byte(contract.BinFolder+"/modprobe"), 0) // ENOENT: no modules at all
	return nil
}

// coverDiskAgent shows the running agent at its usual place, over whatever build the disk carries. On a read-only disk
// without that place it is found by PATH instead.
func (a *bootArchive) coverDiskAgent() {
	_ = os.MkdirAll(filepath.Dir(contract.AgentPath), 0o755)
	if err := a.bindAgent(contract.AgentPath); err != nil {
		_ = os.Symlink(contract.RunningAgent, filepath.Join(contract.BinFolder, filepath.Base(contract.AgentPath)))
	}
}

func (a *bootArchive) bindAgent(target string) error {
	mountPoint, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err == nil {
		_ = mountPoint.Close()
	} else if !os.IsExist(err) {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", a.agent), target, "", unix.MS_BIND, "")
}
