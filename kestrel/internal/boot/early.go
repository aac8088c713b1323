// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// pseudo is a file system without a disk.
type pseudo struct {
	target, fstype, options string
	flags                   uintptr
	mode                    os.FileMode
}

// Linux mounts nothing for PID 1 of an initramfs. These three move along into the root disk.
var earlyMounts = []pseudo{
	{"/proc", "proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, 0o555},
	{"/sys", "sysfs", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, 0o555},
	{"/dev", "devtmpfs", "mode=0755", unix.MS_NOSUID, 0o755},
}

// prepareProcess gives PID 1 what every other process inherits from its parent.
func prepareProcess() error {
	unix.Umask(0o022)
	for _, mount := range earlyMounts {
		if err := mount.mount(); err != nil {
			return err
		}
	}
	openConsole()
	calmRuntime()
	_ = os.WriteFile("/proc/self/comm", []byte("kestrel"), 0) // what ps and panics call PID 1, instead of "init"
	limit := unix.Rlimit{Cur: 65536, Max: 1 << 20}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	return os.Setenv("PATH", contract.BinFolder+":"+contract.DefaultPath)
}

func (p pseudo) mount() error {
	if err := os.MkdirAll(p.target, p.mode); err != nil && !isFolder(p.target) {
		return fmt.Errorf("cannot mount %s: %w", p.target, err)
	}
	err := unix.Mount(p.fstype, p.target, p.fstype, p.flags, p.options)
	if err != nil && err != unix.EBUSY { // EBUSY: it is mounted there already
		return fmt.Errorf("cannot mount %s: %w", p.target, err)
	}
	return nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// openConsole makes the console the standard streams where the kernel found none to open (an initramfs without
// /dev/console). Panics and the first lines of a failing boot go there.
func openConsole() {
	if _, err := unix.FcntlInt(2, unix.F_GETFD, 0); err == nil {
		return
	}
	console, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return
	}
	for stream := range 3 {
		_ = unix.Dup3(console, stream, 0)
	}
}

// readGuestConfig reads this VM's settings.
func readGuestConfig() (*contract.GuestConfig, error) {
	data, err := os.ReadFile(contract.GuestConfigPath)
	if err != nil {
		return nil, fmt.Errorf("cannot read guest.json of the boot archive: %w", err)
	}
	config, err := contract.ParseGuestConfig(data)
	if err != nil {
		return nil, fmt.Errorf("cannot use guest.json of the boot archive: %w", err)
	}
	if config.VMID == "" {
		config.VMID = readMachineID()
	}
	return config, nil
}

// readMachineID is what the machine says of itself, where no volantd has given an id: the same at each of its boots, and
// another one's in its copies. Where it says nothing the id is this boot's.
func readMachineID() string {
	for _, path := range []string{"/sys/class/dmi/id/product_uuid", "/proc/sys/kernel/random/boot_id"} {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return ""
}
