// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

const (
	place    = contract.RuntimeFolder + "/modules"
	lockPath = contract.RuntimeFolder + "/modules.lock"
)

// errNoDisk: the host attached none.
var errNoDisk = errors.New("this VM has no disk of kernel modules (its host lacks mke2fs, or the kernel has no modules)")

// Mount mounts the disk of modules where the agent looks for them, unless that was done, and returns the folder.
func Mount() (string, error) {
	if isMounted() {
		return place, nil
	}
	device := findDevice("/sys/block")
	if device == "" {
		return "", errNoDisk
	}
	lock, err := os.OpenFile(lockPath, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", fmt.Errorf("cannot reach the kernel modules: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("cannot reach the kernel modules: %w", err)
	}
	if isMounted() {
		return place, nil
	}
	if err := os.MkdirAll(place, 0o755); err != nil {
		return "", fmt.Errorf("cannot reach the kernel modules: %w", err)
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount(device, place, "ext4", flags, ""); err != nil {
		return "", fmt.Errorf("cannot mount the disk of kernel modules (%s): %w", device, err)
	}
	return place, nil
}

func isMounted() bool {
	_, err := os.Stat(filepath.Join(place, "modules.dep"))
	return err == nil
}

func findDevice(folder string) string {
	devices, _ := os.ReadDir(folder)
	for _, device := range devices {
		serial, err := os.ReadFile(filepath.Join(folder, device.Name(), "serial"))
		if err == nil && strings.TrimSpace(string(serial)) == contract.ModulesSerial {
			return "/dev/" + device.Name()
		}
	}
	return ""
}

// Show mounts the disk and makes the rest of the guest see it. A VM without the disk is none the worse.
func Show() error {
	folder, err := Mount()
	if errors.Is(err, errNoDisk) {
		return nil
	}
	if err != nil {
		return err
	}
	makeDevices(folder, "/dev")
	return showFolder(folder)
}

// openDevices are device files that every user may open, as udev has it.
var openDevices = map[string]bool{"net/tun": true, "fuse": true, kvmDevice: true}

// makeDevices makes the device files of modules that are not loaded: opening one loads its module.
func makeDevices(folder, devices string) {
	tables{folder: folder}.scan("modules.devname", func(line string) bool {
		var name, module string
		var kind rune
		var major, minor uint32
		if _, err := fmt.Sscanf(line, "%s %s %c%d:%d", &module, &name, &kind, &major, &minor); err != nil {
			return true
		}
		mode := uint32(unix.S_IFCHR)
		if kind == 'b' {
			mode = unix.S_IFBLK
		}
		makeDevice(devices, name, mode, unix.Mkdev(major, minor))
		return true
	})
	if name := kvmModule(readCPUInfo()); name != "" && len(tables{folder: folder}.findAll(name)) > 0 {
		makeDevice(devices, kvmDevice, unix.S_IFCHR, unix.Mkdev(10, 232))
	}
}

func makeDevice(devices, name string, kind uint32, number uint64) {
	target := filepath.Join(devices, name)
	_ = os.MkdirAll(filepath.Dir(target), 0o755)
	if unix.Mknod(target, kind|0o600, int(number)) == nil && openDevices[name] {
		_ = os.Chmod(target, 0o666)
	}
}

// showFolder shows the disk at /lib/modules/VERSION too, where programs of the image look, unless the image has
// modules of its own there.
func showFolder(folder string) error {
	var names unix.Utsname
	if err := unix.Uname(&names); err != nil {
		return err
	}
	target := filepath.Join("/lib/modules", unix.ByteSliceToString(names.Release[:]))
	entries, err := os.ReadDir(target)
	if err == nil && len(entries) > 0 {
		return nil
	}
	if err != nil && os.MkdirAll(target, 0o755) != nil {
		return nil // a disk that cannot be written; modprobe works all the same
	}
	if info, err := os.Lstat(target); err != nil || !info.IsDir() {
		return nil
	}
	if err := unix.Mount(folder, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot show the kernel modules at %s: %w", target, err)
	}
	return nil
}
