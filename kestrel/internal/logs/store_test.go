// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

const patience = 20 * time.Second

func openStore(t *testing.T, options Options) *Store {
	t.Helper()
	if options.Directories == nil {
		options.Directories = []string{filepath.Join(t.TempDir(), "log")}
	}
	store, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func query(t *testing.T, store *Store, query contract.LogQuery) []contract.LogEntry {
	t.Helper()
	var all []contract.LogEntry
	_, err := store.Read(context.Background(), query, func(entries []contract.LogEntry) error {
		all = append(all, entries...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func texts(entries []contract.LogEntry) string {
	lines := make([]string, 0, len(entries))
	for _, entry := range entries {
		lines = append(lines, entry.Process+":"+entry.Line)
	}
	return strings.Join(lines, ",")
}

// write sends text through a pipe as a process would, and waits until it is kept.
func write(t *testing.T, store *Store, process string, stream Stream, text string) {
	t.Helper()
	pipe, err := store.Pipe(process, stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.Write.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Write.Close(); err != nil {
		t.Fatal(err)
	}
	<-pipe.Drained()
}

func pointer(number int) *int { return &number }

func TestLinesComeBackInOrderWithStreamAndTime(t *testing.T) {
	store := openStore(t, Options{})
	before := time.Now()
	write(t, store, "web", Stdout, "one\ntwo\n")
	write(t, store, "db", Stderr, "three\nno end")
	store.Say("four %d", 4)
	entries := query(t, store, contract.LogQuery{})
	if got := texts(entries); got != "web:one,web:two,db:three,db:no end,kestrel:four 4" {
		t.Errorf("lines are %s", got)
	}
	if entries[0].Stream != "stdout" || entries[2].Stream != "stderr" || entries[4].Stream != "agent" {
		t.Errorf("streams are wrong: %+v", entries)
	}
	for index, entry := range entries {
		when, err := time.Parse(time.RFC3339Nano, entry.Time)
		if err != nil || when.Before(before.Add(-time.Second)) || when.After(time.Now().Add(time.Second)) {
			t.Errorf("time is %s (%v)", entry.Time, err)
		}
		if index > 0 && entry.Cursor <= entries[index-1].Cursor {
			t.Errorf("cursor %s follows %s", entry.Cursor, entries[index-1].Cursor)
		}
	}
	if got := texts(query(t, store, contract.LogQuery{Process: "web"})); got != "web:one,web:two" {
		t.Errorf("lines of web are %s", got)
	}
	if got := texts(query(t, store, contract.LogQuery{Cursor: entries[1].Cursor})); got != "db:three,db:no end,kestrel:four 4" {
		t.Errorf("lines after the cursor are %s", got)
	}
	if got := texts(query(t, store, contract.LogQuery{Tail: pointer(2)})); got != "db:no end,kestrel:four 4" {
		t.Errorf("the tail is %s", got)
	}
	if got := texts(query(t, store, contract.LogQuery{Tail: pointer(0)})); got != "" {
		t.Errorf("a tail of none is %s", got)
	}
	if got := texts(query(t, store, contract.LogQuery{Since: entries[3].Time})); got != "db:no end,kestrel:four 4" {
		t.Errorf("lines since are %s", got)
	}
}

func TestLogsSurviveAReboot(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "log")
	options := Options{Directories: []string{folder}}
	first := openStore(t, options)
	write(t, first, "web", Stdout, "before\n")
	first.Close()
	files, _ := filepath.Glob(filepath.Join(folder, "web.*"))
	file, err := os.OpenFile(files[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("2026-01-01T00:00:0"); err != nil { // torn by a crash
		t.Fatal(err)
	}
	_ = file.Close()
	second := openStore(t, options)
	write(t, second, "web", Stdout, "after\n")
	entries := query(t, second, contract.LogQuery{})
	if got := texts(entries); got != "web:before,web:after" {
		t.Errorf("lines are %s", got)
	}
	if again, _ := filepath.Glob(filepath.Join(folder, "web.*")); len(again) != 1 {
		t.Errorf("a small segment was not continued: %v", again)
	}
}

func TestAClockThatIsPutBackKeepsTheOrder(t *testing.T) {
	store := openStore(t, Options{})
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	store.clock.now = func() int64 { return now.UnixNano() }
	store.Say("first")
	now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	store.Say("second")
	entries := query(t, store, contract.LogQuery{})
	if got := texts(entries); got != "kestrel:first,kestrel:second" {
		t.Errorf("lines are %s", got)
	}
	if !strings.HasPrefix(entries[1].Time, "2026-01-01T00:00:00.") {
		t.Errorf("the second line's time is %s", entries[1].Time)
	}
	if got := texts(query(t, store, contract.LogQuery{Cursor: entries[0].Cursor})); got != "kestrel:second" {
		t.Errorf("after the first comes %s", got)
	}
}

func TestDiskUseIsBoundedAndTheLatestLinesStay(t *testing.T) {
	store := openStore(t, Options{ProcessBytes: 256 << 10, TotalBytes: 1 << 20})
	var all sync.WaitGroup
	const lines = 20_000
	for index := range 8 {
		all.Go(func() {
			var text strings.Builder
			for line := range lines {
				fmt.Fprintf(&text, "line %d of this process, with some text to make it longer\n", line)
			}
			write(t, store, fmt.Sprintf("p%d", index), Stdout, text.String())
		})
	}
	all.Wait()
	segments, err := listSegments(store.directory)
	if err != nil {
		t.Fatal(err)
	}
	var used int64
	for _, segment := range segments {
		used += segment.size
	}
	// The bound may be passed by one batch of lines per process while it is written, never at rest by more than one.
	if used > store.totalBytes+4*batchBytes || used != store.usedBytes {
		t.Errorf("%d bytes are used (%d counted), the bound is %d", used, store.usedBytes, store.totalBytes)
	}
	for index := range 8 {
		entries := query(t, store, contract.LogQuery{Process: fmt.Sprintf("p%d", index)})
		if len(entries) == 0 {
			t.Errorf("nothing is left of p%d", index)
			continue
		}
		first := number(t, entries[0].Line)
		for offset, entry := range entries {
			if number(t, entry.Line) != first+offset {
				t.Fatalf("line %d of p%d is %q, the first was %d", offset, index, entry.Line, first)
			}
		}
		if last := number(t, entries[len(entries)-1].Line); last != lines-1 {
			t.Errorf("the last line of p%d is %d", index, last)
		}
	}
}

func number(t *testing.T, line string) int {
	t.Helper()
	fields := strings.Fields(line)
	value, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestLongAndOddLines(t *testing.T) {
	store := openStore(t, Options{})
	long := strings.Repeat("x", 3*maxLine+5)
	write(t, store, "web", Stdout, long+"\n\n\x00\xff\r\nend\n")
	entries := query(t, store, contract.LogQuery{})
	var joined strings.Builder
	for _, entry := range entries[:len(entries)-3] {
		joined.WriteString(entry.Line)
	}
	if joined.String() != long {
		t.Errorf("the long line came back with %d of %d bytes in %d pieces", joined.Len(), len(long), len(entries)-3)
	}
	if rest := texts(entries[len(entries)-3:]); rest != "web:,web:\x00\xff\r,web:end" {
		t.Errorf("the rest is %q", rest)
	}
}

func TestFollowSeesEveryLineOnceAcrossRotation(t *testing.T) {
	store := openStore(t, Options{ProcessBytes: 512 << 10, TotalBytes: 64 << 20})
	for name, follow := range map[string]func(context.Context, contract.LogQuery, func([]contract.LogEntry) error) (string, error){
		"in the agent": store.Read,
		"from outside": func(ctx context.Context, query contract.LogQuery, emit func([]contract.LogEntry) error) (string, error) {
			return ReadDirectory(ctx, store.Directory(), query, emit)
		},
	} {
		t.Run(name, func(t *testing.T) {
			process := strings.ReplaceAll(name, " ", "-")
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			got, want := 0, 5000
			done := make(chan error, 1)
			go func() {
				_, err := follow(ctx, contract.LogQuery{Process: process, Follow: true}, func(entries []contract.LogEntry) error {
					for _, entry := range entries {
						if entry.Line != fmt.Sprintf("line %d", got) {
							return fmt.Errorf("got %q instead of line %d", entry.Line, got)
						}
						got++
					}
					if got == want {
						cancel()
					}
					return nil
				})
				done <- err
			}()
			pipe, err := store.Pipe(process, Stdout)
			if err != nil {
				t.Fatal(err)
			}
			for line := range want {
				if _, err := fmt.Fprintf(pipe.Write, "line %d\n", line); err != nil {
					t.Fatal(err)
				}
				if line%100 == 99 { // slowly enough that the reader is not overtaken by the bound
					time.Sleep(2 * time.Millisecond)
				}
			}
			_ = pipe.Write.Close()
			if err := <-done; err != nil || got != want {
				t.Errorf("%d lines, error %v", got, err)
			}
		})
	}
}

func TestAnErrorOfTheReceiverEndsTheQuery(t *testing.T) {
	store := openStore(t, Options{})
	store.Say("line")
	gone := errors.New("gone")
	if _, err := store.Read(context.Background(), contract.LogQuery{}, func([]contract.LogEntry) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("error is %v", err)
	}
	if _, err := store.Read(context.Background(), contract.LogQuery{Cursor: "nonsense"}, nil); err == nil {
		t.Error("a wrong cursor was taken")
	}
	if _, err := store.Read(context.Background(), contract.LogQuery{Since: "a while ago"}, nil); err == nil {
		t.Error("a wrong time was taken")
	}
}

func TestTheNextDirectoryIsUsedWhereOneCannotBeWritten(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	store := openStore(t, Options{Directories: []string{filepath.Join(file, "log"), filepath.Join(folder, "log")}})
	if store.Directory() != filepath.Join(folder, "log") {
		t.Errorf("the directory is %s", store.Directory())
	}
	if _, err := Open(Options{Directories: []string{filepath.Join(file, "log")}}); err == nil {
		t.Error("a store without a directory was opened")
	}
}

func TestAFullDiskLosesLinesAndSaysSo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a small file system")
	}
	folder := t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	store := openStore(t, Options{Directories: []string{filepath.Join(folder, "log")}, ProcessBytes: 10 << 20, TotalBytes: 100 << 20})
	filler := filepath.Join(folder, "filler")
	write(t, store, "web", Stdout, "begin\n")
	_ = os.WriteFile(filler, make([]byte, 1<<20), 0o600) // fills what there is
	write(t, store, "web", Stdout, strings.Repeat("some text that does not fit\n", 10_000))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	write(t, store, "web", Stdout, "after\n")
	text := texts(query(t, store, contract.LogQuery{}))
	files, _ := filepath.Glob(filepath.Join(store.Directory(), "web.*"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
			if _, ok := parseStamp(line); !ok {
				t.Errorf("a torn line was left: %q", line)
			}
		}
	}
	if !strings.Contains(text, "lines of web were lost: the disk was full") || !strings.HasSuffix(text, "web:after") {
		t.Errorf("the end is %q", text[max(0, len(text)-300):])
	}
}

// A flood must neither block its writer for good nor fill the disk, with a console that hangs and a reader that is
// slow. How fast it is, the bench measures.
func TestAFloodIsKeptUpWith(t *testing.T) {
	read, stuck, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	console := NewConsole(stuck)
	store := openStore(t, Options{ProcessBytes: 1 << 20, Console: console})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = store.Read(ctx, contract.LogQuery{Follow: true}, func([]contract.LogEntry) error {
			<-ctx.Done()
			return nil
		})
	}()
	pipe, err := store.Pipe("flood", Stdout)
	if err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog, again and again and again\n"), 1000)
	begun := time.Now()
	total := 0
	for total < 100<<20 {
		count, err := pipe.Write.Write(chunk)
		if err != nil {
			t.Fatal(err)
		}
		total += count
	}
	_ = pipe.Write.Close()
	<-pipe.Drained()
	t.Logf("%.0f MB/s", float64(total)/1e6/time.Since(begun).Seconds())
	if store.usedBytes > 1<<20+4*batchBytes {
		t.Errorf("%d bytes are used", store.usedBytes)
	}
	_ = stuck.Close()
}

func TestConsoleTagsLinesAndTellsWhatItLeftOut(t *testing.T) {
	var mutex sync.Mutex
	var output bytes.Buffer
	console := NewConsole(writerFunc(func(data []byte) (int, error) {
		mutex.Lock()
		defer mutex.Unlock()
		return output.Write(data)
	}))
	store := openStore(t, Options{Console: console})
	write(t, store, "web", Stdout, "hello\nworld\n")
	write(t, store, "flood", Stdout, strings.Repeat("0123456789\n", 100_000))
	store.Say("still heard")
	console.Close(patience)
	text := output.String()
	if !strings.HasPrefix(text, "[web] hello\n[web] world\n") || !strings.Contains(text, "[kestrel] still heard\n") ||
		!strings.Contains(text, "lines are not shown here") {
		t.Errorf("the console shows %d bytes: %q …", len(text), text[:min(len(text), 200)])
	}
	if len(text) > 4*consoleBurstBytes {
		t.Errorf("the console shows %d bytes", len(text))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(data []byte) (int, error) { return f(data) }

func TestNothingIsLeftOfClosedPipes(t *testing.T) {
	store := openStore(t, Options{})
	before := runtime.NumGoroutine()
	for range 50 {
		write(t, store, "web", Stdout, "line\n")
	}
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

func TestStampsRoundTripAndIncrease(t *testing.T) {
	for _, stamp := range []int64{0, 1, 999_999_999, 1_767_225_599_999_999_998, 4_102_444_800_000_000_000} {
		text := string(appendStamp(nil, stamp))
		if got, ok := parseStamp([]byte(text)); !ok || got != stamp || len(text) != stampBytes {
			t.Errorf("%d became %s became %d", stamp, text, got)
		}
	}
	text := string(stampLines(nil, 1_767_225_599_999_999_998, Stdout, []byte("a\nb\nc\n")))
	want := "2025-12-31T23:59:59.999999998Z o a\n2025-12-31T23:59:59.999999999Z o b\n2026-01-01T00:00:00.000000000Z o c\n"
	if text != want {
		t.Errorf("stamped lines are\n%s", text)
	}
	if _, ok := parseStamp([]byte("2026-01-01T00:00:0x.000000000Z")); ok {
		t.Error("nonsense was read as a stamp")
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 5, 17, 12, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-05-17T10:00:00Z": "2026-05-17T10:00:00Z", "2026-05-17 10:00": "2026-05-17T10:00:00Z",
		"2026-05-16": "2026-05-16T00:00:00Z", "today": "2026-05-17T00:00:00Z", "yesterday": "2026-05-16T00:00:00Z",
		"now": "2026-05-17T12:30:00Z", "10m": "2026-05-17T12:20:00Z", "-90s": "2026-05-17T12:28:30Z",
		"1 hour ago": "2026-05-17T11:30:00Z", "10 min ago": "2026-05-17T12:20:00Z", "2 days ago": "2026-05-15T12:30:00Z",
		"@1700000000": "2023-11-14T22:13:20Z",
	} {
		if got, err := ParseSince(text, now); err != nil || !got.UTC().Equal(mustParse(t, want)) {
			t.Errorf("%q is %s (%v), want %s", text, got.UTC(), err, want)
		}
	}
	for _, text := range []string{"", "soon", "5 parsecs ago", "2026-13-01"} {
		if _, err := ParseSince(text, now); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func mustParse(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
