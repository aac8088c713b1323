// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

func TestPerRunsACommandAsOftenAsItIsTold(t *testing.T) {
	state := t.TempDir()
	setInstance := func(id string) {
		if err := os.WriteFile(filepath.Join(state, instanceFile), []byte(id+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := new(bytes.Buffer)
	run := func(arguments ...string) int {
		return runPer(state, arguments, func(command []string) int {
			fmt.Fprintln(out, strings.Join(command, " "))
			return len(command) - 1
		}, out, out)
	}
	for _, instance := range []string{"i-1", "i-1", "i-2"} {
		setInstance(instance)
		for frequency, command := range map[string][]string{"once": {"once"}, "instance": {"instance"}, "always": {"always", "3"}} {
			got := run(append([]string{frequency, "a-name"}, command...)...)
			if want := map[string]int{"always": 1}[frequency]; got != want {
				t.Errorf("%s of %s: exit code %d", frequency, instance, got)
			}
		}
	}
	for frequency, want := range map[string]int{"once\n": 1, "instance\n": 2, "always 3\n": 3} {
		if got := strings.Count(out.String(), frequency); got != want {
			t.Errorf("%q ran %d times, want %d", frequency, got, want)
		}
	}
	// A command that failed is not run again either.
	if run("once", "other", "x", "y", "z") != 2 || run("once", "other", "x", "y", "z") != 0 {
		t.Error("exit codes of a failing command")
	}
	for _, wrong := range [][]string{{}, {"once", "name"}, {"daily", "n", "true"}, {"once", "a/b", "true"}, {"once", "", "true"}} {
		if code := run(wrong...); code != 1 {
			t.Errorf("%q: exit code %d", wrong, code)
		}
	}
	if err := os.Remove(filepath.Join(state, instanceFile)); err != nil {
		t.Fatal(err)
	}
	if code := run("instance", "n", "true"); code != 1 {
		t.Errorf("without an instance: exit code %d", code)
	}
}

func TestPerIsOfferedToCommands(t *testing.T) {
	g := newGuest(t)
	g.bootWell("#cloud-config\n{}\n")
	link, err := os.Readlink(filepath.Join(g.root, contract.BinFolder, PerCommand))
	if err != nil || link != contract.RunningAgent {
		t.Errorf("%q %v", link, err)
	}
	if id := g.read(filepath.Join(defaultStateFolder, instanceFile)); id != "instance-1\n" {
		t.Errorf("instance %q", id)
	}
}
