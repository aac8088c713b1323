// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/passwd"
)

const maxKeyFileBytes = 1 << 20

// Keys are the public keys that may log in: some for good, some for a while.
type Keys struct {
	mutex     sync.Mutex
	permanent map[string]struct{} // by wire form
	temporary map[string]time.Time
	now       func() time.Time
}

// NewKeys returns an empty set.
func NewKeys() *Keys {
	return &Keys{
		permanent: make(map[string]struct{}),
		temporary: make(map[string]time.Time),
		now:       time.Now, // monotonic: a corrected clock neither revokes nor prolongs
	}
}

// Add authorizes a line of the authorized_keys form for as long as the agent runs.
func (k *Keys) Add(line string) error {
	key, err := parseKey([]byte(line))
	if err != nil {
		return err
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.permanent[string(key.Marshal())] = struct{}{}
	return nil
}

// Clear forgets every key.
func (k *Keys) Clear() {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	clear(k.permanent)
	clear(k.temporary)
}

// Authorize lets a key log in for a while.
func (k *Keys) Authorize(line string, lifetime time.Duration) error {
	key, err := parseKey([]byte(line))
	if err != nil {
		return err
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	now := k.now()
	for wire, until := range k.temporary {
		if now.After(until) {
			delete(k.temporary, wire)
		}
	}
	wire := string(key.Marshal())
	if until := now.Add(lifetime); until.After(k.temporary[wire]) {
		k.temporary[wire] = until
	}
	return nil
}

// Contains says whether a key may log in now.
func (k *Keys) Contains(key ssh.PublicKey) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	wire := key.Marshal()
	if _, ok := k.permanent[string(wire)]; ok {
		return true
	}
	until, ok := k.temporary[string(wire)]
	return ok && k.now().Before(until)
}

// Permanent is the number of keys that do not run out.
func (k *Keys) Permanent() int {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return len(k.permanent)
}

// parseKey reads one key. A key with options is refused: this server does not enforce them, and "command=" without
// its command would open more than its author meant.
func parseKey(line []byte) (ssh.PublicKey, error) {
	key, _, options, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return nil, fmt.Errorf("cannot read public key: %w", err)
	}
	if len(options) > 0 {
		return nil, fmt.Errorf("cannot accept public key: its options (%s) are not supported", options[0])
	}
	return key, nil
}

// AccountAccepts says whether an account's own ~/.ssh/authorized_keys has the key. As in sshd, a file or folder that
// somebody else could write does not count.
func AccountAccepts(root string, account passwd.Account, key ssh.PublicKey) bool {
	folder := filepath.Join(root, account.Home, ".ssh")
	if !ownedBy(folder, account.UID) {
		return false
	}
	// Non-blocking: a FIFO in this place must not hold up the login.
	descriptor, err := unix.Open(filepath.Join(folder, "authorized_keys"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(descriptor), "authorized_keys")
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || !isPrivate(info, account.UID) {
		return false
	}
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFileBytes))
	if err != nil {
		return false
	}
	wanted := key.Marshal()
	for line := range bytes.Lines(content) {
		if found, err := parseKey(line); err == nil && bytes.Equal(found.Marshal(), wanted) {
			return true
		}
	}
	return false
}

func ownedBy(path string, uid uint32) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() && isPrivate(info, uid)
}

func isPrivate(info os.FileInfo, uid uint32) bool {
	status, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	return (status.Uid == uid || status.Uid == 0) && info.Mode().Perm()&0o022 == 0
}
