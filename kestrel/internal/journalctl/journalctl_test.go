// SPDX-License-Identifier: Apache-2.0

package journalctl

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/volantvm/volant/kestrel/internal/logs"
)

func makeLogs(t *testing.T) *logs.Store {
	t.Helper()
	store, err := logs.Open(logs.Options{Directories: []string{filepath.Join(t.TempDir(), "log")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	store.Say("process web started")
	for _, line := range []struct {
		process string
		stream  logs.Stream
		text    string
	}{{"web", logs.Stdout, "GET /\n"}, {"db", logs.Stdout, "ready\n"}, {"web", logs.Stderr, "oops\n"}} {
		pipe, err := store.Pipe(line.process, line.stream)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pipe.Write.WriteString(line.text); err != nil {
			t.Fatal(err)
		}
		_ = pipe.Write.Close()
		<-pipe.Drained()
	}
	return store
}

func TestOptions(t *testing.T) {
	store := makeLogs(t)
	for arguments, want := range map[string]string{
		"-o cat":                      "process web started|GET /|ready|oops",
		"-u kestrel -o cat":           "process web started",
		"-u kestrel.service -ocat":    "process web started",
		"-u web --output=cat":         "GET /|oops",
		"-u web -u db -o cat":         "GET /|ready|oops",
		"--unit=web -n 1 -o cat":      "oops",
		"-xeu web -n1 -o cat":         "oops",
		"-n 2 -o cat --no-pager -b":   "ready|oops",
		"-n all -o cat -q":            "process web started|GET /|ready|oops",
		"-r -n 2 -o cat":              "oops|ready",
		"--since -1h -o cat -u db":    "ready",
		"--since 2100-01-01 -o cat":   "-- No entries --",
		"--until 2000-01-01 -o cat":   "-- No entries --",
		"-u nobody":                   "-- No entries --",
		"-S today -U now -o cat -udb": "ready",
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), store.Directory(), strings.Fields(arguments), &stdout, &stderr)
		got := strings.ReplaceAll(strings.TrimSuffix(stdout.String(), "\n"), "\n", "|")
		if code != 0 || got != want {
			t.Errorf("journalctl %s: %q (exit code %d, %s), want %q", arguments, got, code, stderr.String(), want)
		}
	}
}

func TestFormats(t *testing.T) {
	store := makeLogs(t)
	for format, pattern := range map[string]string{
		"short":         `^[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d \S+ db: ready\n$`,
		"short-precise": `^[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d\.\d{6} \S+ db: ready\n$`,
		"short-iso":     `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \S+ db: ready\n$`,
	} {
		var stdout, stderr bytes.Buffer
		run(context.Background(), store.Directory(), []string{"-u", "db", "-o", format}, &stdout, &stderr)
		if !regexp.MustCompile(pattern).MatchString(stdout.String()) {
			t.Errorf("%s prints %q", format, stdout.String())
		}
	}
	var stdout, stderr bytes.Buffer
	run(context.Background(), store.Directory(), []string{"-u", "db", "-o", "json"}, &stdout, &stderr)
	var fields map[string]string
	if err := json.Unmarshal(stdout.Bytes(), &fields); err != nil || fields["MESSAGE"] != "ready" || fields["_SYSTEMD_UNIT"] != "db.service" {
		t.Errorf("json is %s (%v)", stdout.String(), err)
	}
}

func TestRefusals(t *testing.T) {
	store := makeLogs(t)
	for arguments, reason := range map[string]string{
		"--vacuum-size=1M": "no option --vacuum-size", "-Z": "no option -Z", "-u": "-u needs a value",
		"-n many": "processes only", "-nmany": "number of lines", "-o xml": "no output format", "--since someday": "cannot read the time",
		"_PID=1": "processes only",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), store.Directory(), strings.Fields(arguments), &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), reason) {
			t.Errorf("journalctl %s: exit code %d, %q, want %q", arguments, code, stderr.String(), reason)
		}
	}
}

type safeBuffer struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(data []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(data)
}

func (b *safeBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.String()
}

func TestFollow(t *testing.T) {
	store := makeLogs(t)
	ctx, cancel := context.WithCancel(context.Background())
	var stdout safeBuffer
	var stderr bytes.Buffer
	done := make(chan int)
	go func() {
		done <- run(ctx, store.Directory(), []string{"-fu", "kestrel", "-n1", "-o", "cat"}, &stdout, &stderr)
	}()
	await := func(text string) {
		for limit := time.Now().Add(20 * time.Second); !strings.Contains(stdout.String(), text); time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%q never came: %q", text, stdout.String())
			}
		}
	}
	await("process web started\n")
	store.Say("something new")
	await("something new\n")
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}
