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

// Identity is what a copy renews of who it is. It is opened while the original is held: a copy has code that its host
// has never run, which under emulation is what costs, so it is left no more than to write.
type Identity struct {
	random     *os.File
	machineIDs []*os.File
	bootID     *os.File
	problems   []error
}

// OpenIdentity opens the machine ids below root that are files, and covers the kernel's boot id by a file of the runtime
// folder. What cannot be opened is told by Renew.
func OpenIdentity(root, runtimeFolder string) *Identity {
	identity := &Identity{}
	for _, name := range machineIDFiles {
		path := filepath.Join(root, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			identity.problems = append(identity.problems, fmt.Errorf("cannot renew the machine id: %w", err))
			continue
		}
		identity.machineIDs = append(identity.machineIDs, file)
	}
	var err error
	if identity.bootID, err = coverBootID(runtimeFolder); err != nil {
		identity.problems = append(identity.problems, fmt.Errorf("cannot renew the boot id: %w", err))
	}
	identity.random, _ = openRandom() // tried again when it is needed
	return identity
}

// coverBootID mounts a file over the kernel's boot id that reads the same, if none is mounted there yet.
func coverBootID(runtimeFolder string) (*os.File, error) {
	path := filepath.Join(runtimeFolder, "boot_id")
	if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		return file, nil
	}
	present, err := os.ReadFile(bootIDFile)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, present, 0o444); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		err = unix.Mount(path, bootIDFile, "", unix.MS_BIND, "")
	}
	if err != nil {
		_ = os.Remove(path)
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Reseed renews the kernel's random numbers.
func (i *Identity) Reseed(entropy []byte) error {
	if i.random == nil {
		return Reseed(entropy)
	}
	return reseed(i.random, entropy)
}

// Renew gives this copy a machine id (machine-id(5)) and a boot id of its own. It comes after Reseed.
func (i *Identity) Renew() error {
	problems := i.problems
	if identity, err := randomHex(); err != nil {
		problems = append(problems, err)
	} else {
		for _, file := range i.machineIDs {
			problems = append(problems, overwrite(file, identity+"\n"))
		}
	}
	if i.bootID != nil {
		digits, err := randomHex()
		if err == nil {
			err = overwrite(i.bootID, formatUUID(digits)+"\n")
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// Close lets go of the files: what is open for writing keeps a disk from being unmounted.
func (i *Identity) Close() {
	for _, file := range append(i.machineIDs, i.bootID, i.random) {
		_ = file.Close() // of nil, too
	}
	*i = Identity{}
}

// overwrite leaves a file with this text, without ever emptying it: ext4 would write an emptied file to its disk at once.
func overwrite(file *os.File, text string) error {
	if _, err := file.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(text)))
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
