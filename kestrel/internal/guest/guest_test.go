// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
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
	var journal Journal
	journal.Warn("too early")
	store, err := logs.Open(logs.Options{Directories: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	told := 0
	journal.attach(store, func() { told++ })
	journal.Warn("later")
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
	var journal Journal
	if readImageConfig(path, &journal); len(journal.listWarnings()) != 0 {
		t.Errorf("a missing file warns: %v", journal.listWarnings())
	}
	write(t, path, `{"cmd": "not a list"}`)
	if readImageConfig(path, &journal); len(journal.listWarnings()) != 1 || !strings.Contains(journal.listWarnings()[0], "cmd is not a list") {
		t.Errorf("warnings are %v", journal.listWarnings())
	}
}

func TestStampsLeaveModulesOut(t *testing.T) {
	stamps := NewStamps(time.Now().Add(-time.Second))
	stamps.last = stamps.started
	stamps.NoteModules() // a second of them
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
