// SPDX-License-Identifier: Apache-2.0

package nested

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// StopTimeout is how long an init may take to stop all that it has started, unless the config says otherwise.
const StopTimeout = time.Minute

// systemdStop asks systemd to stop everything and end (SIGRTMIN+3, systemd(1); glibc's SIGRTMIN is 34).
const systemdStop = unix.Signal(37)

// inits are where distributions keep programs that refuse to be anything but process 1.
var inits = []string{
	"/sbin/init", "/usr/sbin/init", "/bin/init", "/usr/bin/init", "/sbin/openrc-init", "/usr/sbin/openrc-init",
	"/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/bin/systemd", "/usr/bin/systemd",
}

// overlayMarks are files of s6-overlay, whose /init is not every image's /init.
var overlayMarks = []string{"package/admin/s6-overlay", "etc/s6-overlay", "etc/s6"}

// WantsProcess1 tells of a command that is known to refuse to run as another process. Root is the folder with the
// guest's files.
func WantsProcess1(root, command string) bool {
	if command == "/init" {
		return slices.ContainsFunc(overlayMarks, func(mark string) bool {
			_, err := os.Stat(filepath.Join("/", root, mark))
			return err == nil
		})
	}
	return slices.Contains(inits, command)
}

// StopSignal is the signal by which an init is asked to end, where the image does not say.
func StopSignal(root, command string) unix.Signal {
	target, err := filepath.EvalSymlinks(filepath.Join("/", root, command))
	if err == nil && filepath.Base(target) == "systemd" {
		return systemdStop
	}
	return unix.SIGTERM
}
