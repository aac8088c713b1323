// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// messageLimit is what of a last message is told, as Kubernetes has it.
const messageLimit = 4096

// offerMessage makes the file in which a process may leave what it wants to be told of its end: an empty one that
// everybody may write to, since it is the workload's whoever it runs as.
func offerMessage(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return unix.Fchmod(int(file.Fd()), 0o666)
}

// readMessage is what was left there. A link leads where the workload may not look, and a pipe nowhere.
func readMessage(path string) string {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	content, _ := io.ReadAll(io.LimitReader(file, messageLimit))
	return strings.ToValidUTF8(string(content), "\uFFFD")
}
