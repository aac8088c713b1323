// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// agentFile is the running binary, which lies in the boot archive and stays reachable after the root was switched.
type agentFile struct{ descriptor int }

// openAgentFile must be called before the root is switched.
func openAgentFile() (agentFile, error) {
	descriptor, err := unix.Open("/init", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return agentFile{}, fmt.Errorf("cannot open the agent's own file: %w", err)
	}
	return agentFile{descriptor}, nil
}

// install shows the running agent under the names by which people and processes find it: in front of PATH together
// with journalctl, and at its usual place, over whatever build the disk carries.
func (a agentFile) install() error {
	defer func() { _ = unix.Close(a.descriptor) }()
	if err := os.MkdirAll(contract.BinFolder, 0o755); err != nil {
		return fmt.Errorf("cannot install the agent: %w", err)
	}
	own := filepath.Join(contract.BinFolder, filepath.Base(contract.AgentPath))
	if err := a.bind(own); err != nil {
		return fmt.Errorf("cannot install the agent in %s: %w", contract.BinFolder, err)
	}
	if err := os.Symlink(filepath.Base(own), filepath.Join(contract.BinFolder, "journalctl")); err != nil {
		return fmt.Errorf("cannot install journalctl: %w", err)
	}
	// A read-only disk without the mount point: the agent runs and is found by PATH all the same.
	if err := os.MkdirAll(filepath.Dir(contract.AgentPath), 0o755); err == nil || isFolder(filepath.Dir(contract.AgentPath)) {
		_ = a.bind(contract.AgentPath)
	}
	return nil
}

func (a agentFile) bind(target string) error {
	mountPoint, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err == nil {
		_ = mountPoint.Close()
	} else if !os.IsExist(err) {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", a.descriptor), target, "", unix.MS_BIND, "")
}
