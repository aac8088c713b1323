// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Whatever keeps the workload from running ends the start: a VM that waits for ever tells nobody what is wrong.
func TestAStartThatWentWrongIsOver(t *testing.T) {
	cases := map[string]struct {
		yaml, reason string
		change       func(*Options)
	}{
		"a program that is missing": {
			yaml:   "exec:\n  - {name: web, command: /no/such/program}\n",
			reason: "process web: cannot start /no/such/program: there is no such file",
		},
		"a user who is missing": {
			yaml:   "exec:\n  - {name: web, command: sleep, args: [1000], user: nobody-of-that-name}\n",
			reason: `process web: cannot start sleep: cannot find user "nobody-of-that-name"`,
		},
		"a folder that is missing": {
			yaml:   "exec:\n  - {name: web, command: sleep, args: [1000], working_dir: /no/such/folder}\n",
			reason: "process web: cannot start web: its working directory /no/such/folder does not exist",
		},
		"a secret that is missing": {
			yaml:   "exec:\n  - {name: web, command: sleep, args: [1000], vsock_port: 9000}\n",
			reason: "process web: cannot start web: vsock 2:9000: no secret is attached to it",
			change: func(options *Options) {
				options.WaitForVsock = func(context.Context, uint32, uint32) error {
					return errors.New("no secret is attached to it")
				}
			},
		},
		"a one-shot that fails": {
			yaml: "exec:\n  - {name: migrate, command: sh, args: [-c, exit 3], run_once: true}\n" +
				"  - {name: web, command: sleep, args: [1000], depends_on: [migrate]}\n",
			reason: "process migrate: exited with code 3",
		},
		"a dependency that never gets well": {
			yaml: "exec:\n  - name: db\n    command: sleep\n    args: [1000]\n" +
				"    health: {exec: {command: 'false', interval: 100ms, retries: 2}}\n" +
				"  - {name: web, command: sleep, args: [1000], depends_on: [db]}\n",
			reason: "check exec: the check exited with code 1",
		},
		"a program that crashes again and again": {
			yaml:   "exec:\n  - {name: web, command: sh, args: [-c, exit 3], backoff: 10ms}\n",
			reason: "process web: exited with code 3",
		},
	}
	for name, testCase := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startGuest(t, testCase.yaml, testCase.change)
			state := g.await("the start is over", func(state State) bool {
				return state.Phase == contract.PhaseRunning && state.Health == contract.HealthUnhealthy
			})
			if !strings.HasPrefix(state.HealthReason, testCase.reason) {
				t.Errorf("the reason is %q, not %q", state.HealthReason, testCase.reason)
			}
		})
	}
}

func TestAMissingUserIsNoCheckThatCannotRun(t *testing.T) {
	g := startGuest(t, "exec:\n  - {name: web, command: sleep, args: [1000], user: nobody-of-that-name}\n", nil)
	process := g.awaitProcess("web", contract.ProcessFailed)
	if strings.Contains(process.Reason, "check") || !strings.Contains(process.Reason, "nobody-of-that-name") {
		t.Errorf("the reason is %q", process.Reason)
	}
}

// Every move that happens in the tests of this package is a legal one; this makes sure that the others are noticed.
func TestAnIllegalMoveIsLogged(t *testing.T) {
	g := newGuest(t, "", nil)
	process := newProcess(g.Supervisor, spec{name: "web"})
	g.update(func() { process.move(contract.ProcessExited, "") })
	if text := g.journal(t); !strings.Contains(text, "internal error: process web went from waiting to exited") {
		t.Errorf("the log says %q", text)
	}
}

// journal is all that the agent has said.
func (g *guest) journal(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	emit := func(entries []contract.LogEntry) error {
		for _, entry := range entries {
			text.WriteString(entry.Line + "\n")
		}
		return nil
	}
	if _, err := g.store.Read(context.Background(), contract.LogQuery{Process: "kestrel"}, emit); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
