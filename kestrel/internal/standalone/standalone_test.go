// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestItRunsUntilItIsTold(t *testing.T) {
	folder := t.TempDir()
	config := filepath.Join(folder, "config.yaml")
	text := "exec:\n  - {name: a, command: sh, args: [-c, 'trap \"echo ended > " + folder + "/ended; exit 0\" TERM; echo up > " + folder + "/up; while :; do sleep 0.02; done']}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	var stderr bytes.Buffer
	go func() { done <- Main([]string{"--config", config, "--log-dir", filepath.Join(folder, "log")}, &stderr) }()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(folder, "up")); err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the process never came up")
		}
	}
	if err := unix.Kill(os.Getpid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != 0 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if _, err := os.Stat(filepath.Join(folder, "ended")); err != nil {
		t.Error("the process was not stopped by its signal")
	}
}

func TestWrongCalls(t *testing.T) {
	for _, arguments := range [][]string{nil, {"--config"}, {"--colour", "red"}, {"--config", "x", "--log-dir", "y", "--log-bytes", "much"}} {
		var stderr bytes.Buffer
		if code := Main(arguments, &stderr); code != 2 || !strings.HasPrefix(stderr.String(), "usage:") {
			t.Errorf("%q: exit code %d, %q", arguments, code, stderr.String())
		}
	}
}
