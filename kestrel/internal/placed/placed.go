// SPDX-License-Identifier: Apache-2.0

// Package placed puts files of a VM over its disk: configurations and secrets that belong to this VM and not to its image,
// and empty folders, in RAM or of the disk itself.
//
// Each file lies in a tmpfs and is mounted over its path, as Docker does it: the disk keeps an empty file at most, and a
// secret is never written to it. In a folder that is in RAM itself it is an ordinary file, which another may replace.
package placed

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Where the files lie, and the folders of the disk, which stay as long as the VM does. Only root looks into them.
const (
	Folder     = "/run/kestrel/files"
	DiskFolder = "/var/lib/kestrel/folders"
)

// Fetch reads what the host answers on a vsock port of CID 2.
type Fetch func(ctx context.Context, port uint32) ([]byte, error)

// Place puts every file where it belongs. It fails for the first that cannot be there: a workload that starts without
// its configuration does something that nobody asked for.
func Place(ctx context.Context, files []contract.File, folder, diskFolder string, fetch Fetch) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot place the VM's files: %w", err)
	}
	var inMemory []string
	for index, file := range files {
		name := strconv.Itoa(index)
		var err error
		switch file.Kind {
		case contract.FolderInMemory:
			err = placeMemory(file)
			inMemory = append(inMemory, filepath.Clean(file.Path)+"/")
		case contract.FolderOfDisk:
			err = placeFolder(file, filepath.Join(diskFolder, name))
		default:
			var content []byte
			if content, err = read(ctx, file, fetch); err != nil {
				break
			}
			if isBelow(file.Path, inMemory) {
				err = write(file, file.Path, content)
			} else {
				err = place(file, filepath.Join(folder, name), content)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot place %s: %w", file.Path, err)
		}
	}
	return nil
}

func isBelow(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool { return strings.HasPrefix(filepath.Clean(path), folder) })
}

// placeMemory mounts an empty tmpfs, at most half of the guest's memory as the kernel has it.
func placeMemory(file contract.File) error {
	if err := os.MkdirAll(file.Path, 0o755); err != nil {
		return err
	}
	options := fmt.Sprintf("mode=%o,uid=%d,gid=%d", file.Mode, file.UID, file.GID)
	if err := unix.Mount("tmpfs", file.Path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("cannot mount memory: %w", err)
	}
	return nil
}

// placeFolder mounts a folder of the disk that is empty when the VM is new: what the image has at its path is not in it,
// and what the workload wrote is still there when the VM has been started again.
func placeFolder(file contract.File, source string) error {
	if err := makeFolder(file, source); err != nil {
		return err
	}
	if err := os.MkdirAll(file.Path, 0o755); err != nil {
		return err
	}
	return bind(source, file.Path)
}

// makeFolder makes it with its owner and mode, or not at all.
func makeFolder(file contract.File, source string) error {
	if _, err := os.Stat(source); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	draft := source + ".partial"
	if err := os.MkdirAll(filepath.Dir(source), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(draft, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chown(draft, file.UID, file.GID); err != nil {
		return err
	}
	if err := unix.Chmod(draft, uint32(file.Mode)&0o7777); err != nil {
		return err
	}
	return os.Rename(draft, source)
}

func read(ctx context.Context, file contract.File, fetch Fetch) ([]byte, error) {
	if file.SecretPort != nil {
		return fetch(ctx, *file.SecretPort)
	}
	return base64.StdEncoding.DecodeString(file.ContentBase64)
}

func place(file contract.File, source string, content []byte) error {
	if err := write(file, source, content); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file.Path), 0o755); err != nil {
		return err
	}
	target, err := os.OpenFile(file.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case err == nil:
		_ = target.Close()
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return bind(source, file.Path)
}

func bind(source, path string) error {
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot mount it: %w", err)
	}
	return nil
}

// write makes the file with its owner and mode, before it has content.
func write(file contract.File, source string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
		return err
	}
	_ = os.Remove(source)
	made, err := os.OpenFile(source, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = made.Close() }()
	if err := made.Chown(file.UID, file.GID); err != nil {
		return err
	}
	if err := unix.Fchmod(int(made.Fd()), uint32(file.Mode)&0o7777); err != nil {
		return err
	}
	_, err = made.Write(content)
	return err
}
