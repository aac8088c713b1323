// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheDiskWithTheSerialIsFound(t *testing.T) {
	folder := t.TempDir()
	write(t, folder+"/vda/serial", "data\n")
	write(t, folder+"/vda/size", "2048\n")
	write(t, folder+"/vdb/serial", "root")
	write(t, folder+"/vdb/size", "4096\n")
	write(t, folder+"/loop0/size", "0\n")
	found, err := find(folder, "root", 0)
	if err != nil || found != (Disk{"/dev/vdb", 4096 * 512}) {
		t.Errorf("found %v, %v", found, err)
	}
	_, err = find(folder, "other", 0)
	if err == nil || !strings.Contains(err.Error(), `vda "data", vdb "root"`) {
		t.Errorf("error is %v", err)
	}
	if _, err = find(t.TempDir(), "root", 0); err == nil || !strings.Contains(err.Error(), "no disk with a serial number at all") {
		t.Errorf("error is %v", err)
	}
}

func TestADiskThatComesLateIsWaitedFor(t *testing.T) {
	folder := t.TempDir()
	go func() {
		time.Sleep(10 * time.Millisecond)
		write(t, folder+"/vda/size", "8\n")
		write(t, folder+"/vda/serial", "root\n")
	}()
	if found, err := find(folder, "root", time.Minute); err != nil || found.sizeBytes != 4096 {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestSuperblocksAreThoseOfMke2fs(t *testing.T) {
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		t.Skip("needs mke2fs")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if output, err := exec.Command(mke2fs, "-q", "-t", "ext4", "-b", "4096", "-O", "64bit", image, "20M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	found := Disk{device: image, sizeBytes: 20 << 20}
	block, err := found.superblock()
	if err != nil || block != (superblock{blockSize: 4096, blockCount: 5120}) {
		t.Errorf("read %+v, %v", block, err)
	}
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte{3, 0}, superblockOffset+0x3A); err != nil { // valid, with errors
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if block, err := found.superblock(); err != nil || !block.hasErrors {
		t.Errorf("read %+v, %v", block, err)
	}
}

func TestNoSuperblockIsSaid(t *testing.T) {
	for name, content := range map[string][]byte{"blank": make([]byte, 4096), "short": make([]byte, 1000)} {
		if _, err := readSuperblock(bytes.NewReader(content)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOnlyABlankDiskIsBlank(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	for name, testCase := range map[string]struct {
		content []byte
		blank   bool
	}{
		"blank":  {make([]byte, 1<<20), true},
		"small":  {make([]byte, 4096), true},
		"in use": {append(make([]byte, 5000), 1), false},
	} {
		if err := os.WriteFile(path, testCase.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if blank, err := isBlank(path); err != nil || blank != testCase.blank {
			t.Errorf("%s: %v, %v", name, blank, err)
		}
	}
}

func TestANewVolumeIsGivenWhatTheImageHasThere(t *testing.T) {
	folder, volume := t.TempDir(), t.TempDir()
	write(t, folder+"/html/index.html", "hello")
	write(t, folder+"/.hidden", "")
	if err := os.Chmod(folder, 0o711); err != nil {
		t.Fatal(err)
	}
	write(t, volume+"/lost+found/x", "")
	if err := fill(volume, folder); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(volume + "/html/index.html"); err != nil || string(content) != "hello" {
		t.Errorf("holds %q, %v", content, err)
	}
	if info, err := os.Stat(volume); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("mode is %v, %v", info, err)
	}
	if names, err := list(volume); err != nil || len(names) != 2 {
		t.Errorf("holds %v, %v", names, err)
	}
}

func TestAVolumeInUseIsLeftAlone(t *testing.T) {
	folder, volume := t.TempDir(), t.TempDir()
	write(t, folder+"/new", "")
	write(t, volume+"/old", "")
	if err := fill(volume, folder); err != nil {
		t.Fatal(err)
	}
	if names, _ := list(volume); len(names) != 1 || names[0] != "old" {
		t.Errorf("holds %v", names)
	}
}

func TestAFillThatWasCutOffIsDoneAnew(t *testing.T) {
	folder, volume := t.TempDir(), t.TempDir()
	write(t, folder+"/file", "whole")
	write(t, volume+"/file", "ha")
	write(t, volume+"/"+fillingMark, "")
	if err := fill(volume, folder); err != nil {
		t.Fatal(err)
	}
	content, _ := os.ReadFile(volume + "/file")
	if names, _ := list(volume); len(names) != 1 || string(content) != "whole" {
		t.Errorf("holds %v, the file %q", names, content)
	}
}
