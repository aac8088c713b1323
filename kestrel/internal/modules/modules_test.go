// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// makeFolder writes a lib/modules/VERSION as the host makes it.
func makeFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]string{
		"modules.dep": "kernel/arch/x86/kvm/kvm-amd.ko: kernel/drivers/ccp.ko kernel/arch/x86/kvm/kvm.ko kernel/virt/irqbypass.ko\n" +
			"kernel/arch/x86/kvm/kvm.ko: kernel/virt/irqbypass.ko\n" +
			"kernel/virt/irqbypass.ko:\nkernel/drivers/ccp.ko:\n" +
			"kernel/fs/btrfs/btrfs.ko:\nkernel/crypto/crc32c-a.ko:\nkernel/crypto/crc32c-b.ko:\n",
		"modules.alias": "alias fs-btrfs btrfs\nalias crypto-crc32c crc32c_a\nalias crypto-crc32c crc32c_b\n" +
			"alias virtio:d0000000[1-3]v* kvm\nalias net-pf-16-proto-4 ccp\n" +
			"alias char-major-10-232 kvm\n",
		"modules.softdep": "softdep btrfs pre: crypto-crc32c nowhere post: ccp\n",
		"modules.builtin": "kernel/fs/ext4/ext4.ko\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"arch/x86/kvm/kvm-amd", "arch/x86/kvm/kvm", "virt/irqbypass", "drivers/ccp", "fs/btrfs/btrfs", "crypto/crc32c-a", "crypto/crc32c-b"} {
		path := filepath.Join(folder, "kernel", file+".ko")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("ELF"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// kernel notes what is loaded into it.
type kernel struct {
	loaded   []string
	refusals map[string]error
}

func (k *kernel) loader(folder, config string) loader {
	settings := readConfig(nil)
	settings.read(config)
	return loader{
		tables: tables{folder, settings},
		say:    func(string, ...any) {},
		insert: func(file *os.File, parameters string) error {
			name := moduleName(file.Name())
			if err := k.refusals[name]; err != nil {
				return err
			}
			k.loaded = append(k.loaded, strings.TrimSpace(name+" "+parameters))
			return nil
		},
		isLoaded: func(name string) bool {
			return slices.ContainsFunc(k.loaded, func(entry string) bool { return strings.Fields(entry)[0] == name })
		},
	}
}

func TestWhatANameLoads(t *testing.T) {
	folder := makeFolder(t)
	for _, testCase := range []struct {
		name, config string
		parameters   []string
		want         string
	}{
		{name: "kvm-amd", want: "irqbypass, kvm, ccp, kvm_amd"},
		{name: "kvm_amd", parameters: []string{"nested=1"}, want: "irqbypass, kvm, ccp, kvm_amd nested=1"},
		{name: "fs-btrfs", want: "crc32c_a, crc32c_b, btrfs, ccp"},
		{name: "virtio:d00000002v00001AF4", want: "irqbypass, kvm"},
		{name: "virtio:d00000004v00001AF4", want: "this kernel has no such module"},
		{name: "net-pf-16-proto-4", want: "ccp"},
		{name: "net-pf-16-proto-4", config: "blacklist ccp", want: "this kernel has no such module"},
		{name: "ccp", config: "blacklist ccp", want: "ccp"},
		{name: "ccp", config: "install ccp /bin/false", want: ""},
		{name: "ccp", config: "options ccp a=1 \\\n b=2\n# options ccp c=3", want: "ccp a=1 b=2"},
		{name: "my-card", config: "alias my-* ccp", want: "ccp"},
		{name: "char-major-10-232", config: kvmAlias("flags\t: fpu svm sse"), want: "irqbypass, kvm, ccp, kvm_amd"},
		{name: "char-major-10-232", config: kvmAlias("flags\t: fpu sse"), want: "irqbypass, kvm"},
		{name: "ext4", want: ""},
		{name: "../../etc/passwd", want: "this kernel has no such module"},
		{name: "[", want: "this kernel has no such module"},
	} {
		machine := &kernel{}
		err := machine.loader(folder, strings.ReplaceAll(testCase.config, "\\\n", " ")).load(testCase.name, testCase.parameters)
		got := strings.Join(machine.loaded, ", ")
		if err != nil {
			got = err.Error()
		}
		if got != testCase.want {
			t.Errorf("%s (%s): %q, not %q", testCase.name, testCase.config, got, testCase.want)
		}
	}
}

func TestOneOfSeveralIsEnough(t *testing.T) {
	machine := &kernel{refusals: map[string]error{"crc32c_a": unix.ENODEV}}
	if err := machine.loader(makeFolder(t), "").load("crypto-crc32c", nil); err != nil || len(machine.loaded) != 1 {
		t.Errorf("%v, loaded %v", err, machine.loaded)
	}
	machine = &kernel{refusals: map[string]error{"ccp": unix.ENODEV}}
	err := machine.loader(makeFolder(t), "").load("ccp", nil)
	if err == nil || err.Error() != "cannot load ccp: this machine has no device for it" {
		t.Error(err)
	}
	machine = &kernel{refusals: map[string]error{"ccp": unix.EEXIST}}
	if err := machine.loader(makeFolder(t), "").load("ccp", nil); err != nil {
		t.Error(err)
	}
}

func TestTheCommandLine(t *testing.T) {
	folder := makeFolder(t)
	for line, want := range map[string]struct {
		loaded, stdout, stderr string
		code                   int
	}{
		"-q -- fs-btrfs":     {loaded: "crc32c_a, crc32c_b, btrfs, ccp"},
		"-q -- nowhere":      {code: 1},
		"nowhere":            {code: 1, stderr: "modprobe: nowhere: this kernel has no such module\n"},
		"-a ccp nowhere kvm": {loaded: "ccp, irqbypass, kvm", code: 1, stderr: "modprobe: nowhere: this kernel has no such module\n"},
		"-D kvm":             {stdout: "insmod F/kernel/virt/irqbypass.ko\ninsmod F/kernel/arch/x86/kvm/kvm.ko\n"},
		"-nv ccp x=1":        {stdout: "insmod F/kernel/drivers/ccp.ko x=1\n"},
	} {
		machine := &kernel{}
		asked, err := parse(strings.Fields(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var stdout, stderr bytes.Buffer
		code := asked.run(machine.loader(folder, ""), &stdout, &stderr)
		text := strings.ReplaceAll(stdout.String(), folder, "F")
		if code != want.code || text != want.stdout || stderr.String() != want.stderr || strings.Join(machine.loaded, ", ") != want.loaded {
			t.Errorf("%s: code %d, stdout %q, stderr %q, loaded %v", line, code, text, stderr.String(), machine.loaded)
		}
	}
	for _, line := range []string{"--config=x ccp", "-C x ccp", "--nowhere"} {
		if _, err := parse(strings.Fields(line)); !errors.Is(err, errUnknownOption) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
