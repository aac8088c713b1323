// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// FillEtc makes what images for containers leave to whoever runs them: /etc/mtab, in which programs look for file
// systems (without it Java sees none), and /etc/machine-id, which is derived from the VM's id and so stays the same.
// What the image has is left alone.
func (n Names) FillEtc(vmID string) error {
	return errors.Join(n.link("etc/mtab", "../proc/self/mounts"), n.fillMachineID(vmID))
}

func (n Names) fillMachineID(vmID string) error {
	const path = "etc/machine-id"
	if present, err := os.ReadFile(filepath.Join(n.Root, path)); err == nil && len(bytes.TrimSpace(present)) > 0 {
		return nil
	}
	return n.put(path, []byte(makeMachineID(vmID)+"\n"))
}

// makeMachineID is a random-looking UUID of version 4 without its dashes, as machine-id(5) has it.
func makeMachineID(vmID string) string {
	digest := sha256.Sum256([]byte("machine-id of " + vmID))
	digest[6] = digest[6]&0x0F | 0x40
	digest[8] = digest[8]&0x3F | 0x80
	return hex.EncodeToString(digest[:16])
}

// link makes a symbolic link where nothing is.
func (n Names) link(path, target string) error {
	name := filepath.Join(n.Root, path)
	if _, err := os.Lstat(name); err == nil {
		return nil
	}
	err := os.Symlink(target, name)
	if err == nil {
		return nil
	}
	if covering := n.coverFolder(filepath.Dir(name)); covering != nil {
		return fmt.Errorf("cannot make /%s: %w (%w)", path, err, covering)
	}
	return os.Symlink(target, name)
}
