// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files in which systems keep who they are, where they have them. The kernel makes its boot id once and for all.
var machineIDFiles = []string{"etc/machine-id", "var/lib/dbus/machine-id"}

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// RenewMachineID gives a copy a machine id of its own (machine-id(5)) below root, in the files that exist as files.
func RenewMachineID(root string) error {
	identity, err := randomHex()
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range machineIDFiles {
		path := filepath.Join(root, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		problems = append(problems, os.WriteFile(path, []byte(identity+"\n"), 0o444))
	}
	return errors.Join(problems...)
}

// RenewBootID covers the kernel's boot id by one of this copy's own, kept in a runtime folder.
func RenewBootID(runtimeFolder string) error {
	digits, err := randomHex()
	if err != nil {
		return err
	}
	cover := filepath.Join(runtimeFolder, "boot_id")
	_ = unix.Unmount(bootIDFile, unix.MNT_DETACH) // of a copy of a copy; not mounted otherwise
	if err := os.WriteFile(cover, []byte(formatUUID(digits)+"\n"), 0o444); err != nil {
		return fmt.Errorf("cannot renew the boot id: %w", err)
	}
	if err := unix.Mount(cover, bootIDFile, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot renew the boot id: %w", err)
	}
	return nil
}

// randomHex is 32 digits of a random UUID (RFC 9562, version 4).
func randomHex() (string, error) {
	var bytes [16]byte
	if _, err := rand.Read(bytes[:]); err != nil {
		return "", err
	}
	bytes[6] = bytes[6]&0x0f | 0x40
	bytes[8] = bytes[8]&0x3f | 0x80
	return hex.EncodeToString(bytes[:]), nil
}

func formatUUID(digits string) string {
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}
