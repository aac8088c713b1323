// SPDX-License-Identifier: Apache-2.0

// Package copytree copies folders with all that is known of their files.
package copytree

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Content copies what one folder holds into another with owner, mode and modification time. Sockets are left: who
// listened on them is gone. It goes on after an error and returns all of them.
func Content(source, target string) error {
	entries, err := os.ReadDir(source)
	problems := []error{err}
	for _, entry := range entries {
		problems = append(problems, Entry(filepath.Join(source, entry.Name()), filepath.Join(target, entry.Name())))
	}
	return errors.Join(problems...)
}

// Entry copies a file, or a folder with its content into one that may be there already.
func Entry(source, target string) error {
	info, err := os.Lstat(source)
	if err != nil {
		return err
	}
	status := info.Sys().(*syscall.Stat_t)
	switch info.Mode().Type() {
	case os.ModeDir:
		if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		err = Content(source, target)
	case os.ModeSymlink:
		link, linkErr := os.Readlink(source)
		if linkErr != nil {
			return linkErr
		}
		if err := os.Symlink(link, target); err != nil {
			return err
		}
		return os.Lchown(target, int(status.Uid), int(status.Gid))
	case 0:
		err = copyFile(source, target)
	case os.ModeSocket:
		return nil
	default: // FIFO or device
		err = unix.Mknod(target, status.Mode, int(status.Rdev))
	}
	return errors.Join(err,
		os.Lchown(target, int(status.Uid), int(status.Gid)),
		unix.Chmod(target, status.Mode&0o7777), // after chown, which drops setuid
		os.Chtimes(target, info.ModTime(), info.ModTime()))
}

func copyFile(source, target string) error {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
