// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/volantvm/volant/kestrel/internal/logs"
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

func TestModulesThatNobodyWaitsForComeLater(t *testing.T) {
	early, later := splitModules([]string{
		"virtio_ring.ko", "virtio_blk.ko", "virtio_console.ko", "virtio-rng.ko", "net/virtio_net.ko", "vsock.ko",
		"vmw_vsock_virtio_transport_common.ko", "vsock_loopback.ko",
	})
	if want := []string{"virtio_ring.ko", "virtio_blk.ko", "net/virtio_net.ko"}; !slices.Equal(early, want) {
		t.Errorf("early are %v", early)
	}
	if len(later) != 5 || later[0] != "virtio_console.ko" || later[4] != "vsock_loopback.ko" {
		t.Errorf("later are %v", later)
	}
}

func TestTheDiskWithTheSerialIsFound(t *testing.T) {
	folder := t.TempDir()
	write(t, folder+"/vda/serial", "data\n")
	write(t, folder+"/vda/size", "2048\n")
	write(t, folder+"/vdb/serial", "root")
	write(t, folder+"/vdb/size", "4096\n")
	write(t, folder+"/loop0/size", "0\n")
	found, err := findDisk(folder, "root", 0)
	if err != nil || found != (disk{"/dev/vdb", 4096 * 512}) {
		t.Errorf("found %v, %v", found, err)
	}
	_, err = findDisk(folder, "other", 0)
	if err == nil || !strings.Contains(err.Error(), `vda "data", vdb "root"`) {
		t.Errorf("error is %v", err)
	}
	if _, err = findDisk(t.TempDir(), "root", 0); err == nil || !strings.Contains(err.Error(), "no disk with a serial number at all") {
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
	if found, err := findDisk(folder, "root", time.Minute); err != nil || found.sizeBytes != 4096 {
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
	found := disk{device: image, sizeBytes: 20 << 20}
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

func TestCountersOfTheGuest(t *testing.T) {
	proc, links := t.TempDir(), t.TempDir()
	write(t, proc+"/uptime", "12.50 11.00\n")
	write(t, proc+"/stat", "cpu  10 1 5 1000 7 2 3 4 99 99\ncpu0 1 1 1\n")
	write(t, proc+"/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\nHugePages_Total: 5\n")
	write(t, proc+"/self/status", "Name:\tkestrel\nVmRSS:\t  7000 kB\n")
	write(t, links+"/eth0/statistics/rx_bytes", "100\n")
	write(t, links+"/eth0/statistics/tx_bytes", "200\n")
	write(t, links+"/lo/statistics/rx_bytes", "999\n")
	stats, err := readStats(proc, links, proc)
	if err != nil {
		t.Fatal(err)
	}
	if stats.UptimeSeconds != 12.5 || stats.CPUMicroseconds != 250_000 || stats.AgentMemoryBytes != 7000*1024 {
		t.Errorf("got %+v", stats)
	}
	if stats.MemoryTotalBytes != 1000*1024 || stats.MemoryUsedBytes != 400*1024 {
		t.Errorf("got %+v", stats)
	}
	if stats.NetworkReceivedBytes != 100 || stats.NetworkSentBytes != 200 || stats.DiskTotalBytes == 0 {
		t.Errorf("got %+v", stats)
	}
	if _, err := readStats(t.TempDir(), links, proc); err == nil {
		t.Error("no error without /proc")
	}
}

func TestWhatIsSaidBeforeTheLogsIsNotLost(t *testing.T) {
	var journal journal
	journal.warn("too early")
	store, err := logs.Open(logs.Options{Directories: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	told := 0
	journal.attach(store, func() { told++ })
	journal.warn("later")
	if want := []string{"too early", "later"}; !slices.Equal(journal.listWarnings(), want) || told != 1 {
		t.Errorf("warnings %v, told %d times", journal.listWarnings(), told)
	}
	var content []byte
	files, _ := filepath.Glob(store.Directory() + "/*")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		content = append(content, text...)
	}
	if !strings.Contains(string(content), "warning: too early") || !strings.Contains(string(content), "warning: later") {
		t.Errorf("the logs hold %q", content)
	}
}

func TestEveryWatcherIsToldOnce(t *testing.T) {
	changes := newChanges()
	first, cancelFirst := changes.subscribe()
	second, cancelSecond := changes.subscribe()
	defer cancelSecond()
	changes.tell()
	changes.tell()
	<-first
	<-second
	select {
	case <-first:
		t.Error("two changes were told twice")
	default:
	}
	cancelFirst()
	changes.tell()
	<-second
	select {
	case <-first:
		t.Error("told after cancel")
	default:
	}
}

func TestABrokenImageConfigIsAWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.json")
	var journal journal
	if readImageConfig(path, &journal); len(journal.listWarnings()) != 0 {
		t.Errorf("a missing file warns: %v", journal.listWarnings())
	}
	write(t, path, `{"cmd": "not a list"}`)
	if readImageConfig(path, &journal); len(journal.listWarnings()) != 1 || !strings.Contains(journal.listWarnings()[0], "cmd is not a list") {
		t.Errorf("warnings are %v", journal.listWarnings())
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

func TestStampsLeaveModulesOut(t *testing.T) {
	stamps := newStamps(time.Now().Add(-time.Second))
	stamps.last = stamps.started
	stamps.noteModules() // a second of them
	stamps.noteExec()
	times := stamps.bootTimes()
	if times.ModuleLoadMs < 1000 || times.MainToExecMs > 500 {
		t.Errorf("times are %+v", times)
	}
	stamps.noteFurtherModules(time.Second)
	if more := stamps.bootTimes(); more.ModuleLoadMs < times.ModuleLoadMs+1000 {
		t.Errorf("times are %+v", more)
	}
	if !strings.HasPrefix(stamps.String(), "main to exec ") {
		t.Errorf("it reads %q", stamps)
	}
}
