// SPDX-License-Identifier: Apache-2.0

// Package placed puts files of a VM over its disk: configurations and secrets that belong to this VM and not to its image.
//
// Each lies in a tmpfs and is mounted over its path, as Docker does it: the disk keeps an empty file at most, and a
// secret is never written to it.
package placed

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Folder is where the files lie; only root looks into it.
const Folder = "/run/kestrel/files"

// Fetch reads what the host answers on a vsock port of CID 2.
type Fetch func(ctx context.Context, port uint32) ([]byte, error)

// Place puts every file where it belongs. It fails for the first that cannot be there: a workload that starts without
// its configuration does something that nobody asked for.
func Place(ctx context.Context, files []contract.File, folder string, fetch Fetch) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot place the VM's files: %w", err)
	}
	for index, file := range files {
		content, err := read(ctx, file, fetch)
		if err == nil {
			err = place(file, filepath.Join(folder, strconv.Itoa(index)), content)
		}
		if err != nil {
			return fmt.Errorf("cannot place the file %s: %w", file.Path, err)
		}
	}
	return nil
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
	if err := unix.Mount(source, file.Path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot mount it: %w", err)
	}
	return nil
}

// write makes the file with its owner and mode, before it has content.
func write(file contract.File, source string, content []byte) error {
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
