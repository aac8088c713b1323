// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const mounts = `rootfs / rootfs rw 0 0
/dev/vda / ext4 rw,relatime 0 0
/dev/vda /again ext4 rw,relatime 0 0
/dev/vdb /data\040one xfs rw 0 0
/dev/vdc /cdrom iso9660 ro,relatime 0 0
proc /proc proc rw 0 0
`

// play is a guest with files in place of the kernel's.
func play(t *testing.T, ioctl func(path string, request uint) error) (freezer *Freezer, group string) {
	t.Helper()
	root := t.TempDir()
	group = filepath.Join(root, "kestrel")
	if err := os.MkdirAll(filepath.Join(group, "sessions"), 0o755); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(root, "mounts")
	for path, content := range map[string]string{
		table:                                 mounts,
		filepath.Join(group, "cgroup.freeze"): "0",
		filepath.Join(group, "cgroup.events"): "populated 1\nfrozen 1\n",
		filepath.Join(root, "cgroup.procs"):   fmt.Sprintf("%d\n", os.Getpid()),
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &Freezer{Cgroups: root, Mounts: table, Processes: root, ioctl: ioctl}, group
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFreezeHoldsProcessesAndEveryWritableDiskOnce(t *testing.T) {
	var calls []string
	freezer, group := play(t, func(path string, request uint) error {
		calls = append(calls, fmt.Sprintf("%s %x", path, request))
		return nil
	})
	if err := freezer.Freeze(true); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(group, "cgroup.freeze")); got != "1" {
		t.Fatalf("cgroup.freeze is %q", got)
	}
	if want := []string{"/ c0045877", "/data one c0045877"}; !slices.Equal(calls, want) {
		t.Fatalf("froze %q, not %q", calls, want)
	}
	calls = nil
	if err := freezer.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(group, "cgroup.freeze")); got != "0" {
		t.Fatalf("cgroup.freeze is %q", got)
	}
	if want := []string{"/ c0045878", "/data one c0045878"}; !slices.Equal(calls, want) {
		t.Fatalf("thawed %q, not %q", calls, want)
	}
}

func TestAFailedFreezeIsUndone(t *testing.T) {
	thawed := 0
	freezer, group := play(t, func(path string, request uint) error {
		if request == ioctlThaw {
			thawed++
		}
		if path != "/" {
			return unix.EIO
		}
		return nil
	})
	err := freezer.Freeze(true)
	if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "/data one") {
		t.Fatalf("the error is %v", err)
	}
	if got := read(t, filepath.Join(group, "cgroup.freeze")); got != "0" || thawed != 1 {
		t.Fatalf("cgroup.freeze is %q, %d file systems thawed", got, thawed)
	}
}

func TestProcessesAreHeldWithoutTheirDisks(t *testing.T) {
	freezer, group := play(t, func(path string, request uint) error {
		t.Errorf("%x of %s", request, path)
		return nil
	})
	if err := freezer.Freeze(false); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(group, "cgroup.freeze")); got != "1" {
		t.Fatalf("cgroup.freeze is %q", got)
	}
	if err := freezer.Thaw(); err != nil {
		t.Fatal(err)
	}
}

func TestAFileSystemThatCannotBeFrozenIsLeft(t *testing.T) {
	freezer, _ := play(t, func(string, uint) error { return unix.EOPNOTSUPP })
	if err := freezer.Freeze(true); err != nil {
		t.Fatal(err)
	}
}

func TestMachineIDIsRenewedWhereItIsAFile(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "etc/machine-id")
	if err := os.WriteFile(path, []byte("0\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 3 {
		// Nothing is mounted over the boot id of the machine that runs this: its runtime folder is not there.
		held := OpenIdentity(root, filepath.Join(root, "run"))
		if err := held.Renew(); err == nil || !strings.Contains(err.Error(), "boot id") {
			t.Fatal(err)
		}
		held.Close()
		identity := read(t, path)
		if !regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n$`).MatchString(identity) || seen[identity] {
			t.Fatalf("machine-id is %q", identity)
		}
		seen[identity] = true
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/dbus/machine-id")); !os.IsNotExist(err) {
		t.Fatal("a file appeared that the image does not have")
	}
}

func TestEntropyMessage(t *testing.T) {
	message := entropyMessage([]byte{1, 2, 3, 4})
	if want := []byte{32, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4}; !slices.Equal(message, want) {
		t.Fatalf("message %v, not %v", message, want)
	}
}

func TestUUID(t *testing.T) {
	if got := formatUUID("00112233445566778899aabbccddeeff"); got != "00112233-4455-6677-8899-aabbccddeeff" {
		t.Fatal(got)
	}
}
