// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"strings"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

func TestPeopleAreJoinedToTheWorkload(t *testing.T) {
	for name, terminal := range map[string]bool{"pipes": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, "", func(options *Options) {
				options.Workload = contract.Workload{
					Entrypoint: []string{"/bin/sh", "-c", "read name; echo hello $name; test -t 0 && echo on $TERM; exit 7"},
					Stdin:      true, StdinOnce: true, Terminal: terminal, RunOnce: true,
				}
			})
			if err := g.Resize(80, 24); err != nil {
				t.Fatal(err)
			}
			type end struct {
				code int
				err  error
			}
			ended := make(chan end)
			var shown bytes.Buffer
			go func() { // before there is anything to be joined to
				status, err := g.Attach(strings.NewReader("ana\n"), &shown, &shown, make(chan struct{}))
				ended <- end{status.ExitCode(), err}
			}()
			g.Start()
			if found := <-ended; found.err != nil || found.code != 7 {
				t.Errorf("it ended with %+v", found)
			}
			if !strings.Contains(shown.String(), "hello ana") || strings.Contains(shown.String(), "on xterm") != terminal {
				t.Errorf("shown is %q", shown.String())
			}
			state := g.await("it has ended", func(state State) bool { return state.Result != nil })
			if *state.Result != 7 {
				t.Errorf("the result is %d", *state.Result)
			}
			g.WaitServed(patience)
		})
	}
}

func TestWhoCannotBeJoinedIsToldWhy(t *testing.T) {
	none := startGuest(t, "", func(options *Options) {
		options.Workload = contract.Workload{Entrypoint: []string{"/bin/sleep", "1000"}}
	})
	if _, err := none.Attach(strings.NewReader(""), nil, nil, nil); err == nil || !strings.Contains(err.Error(), "made without") {
		t.Errorf("without an input: %v", err)
	}
	several := startGuest(t, `
exec:
  - {name: one, command: /bin/true}
  - {name: two, command: /bin/true}
`, func(options *Options) { options.Workload = contract.Workload{Terminal: true} })
	state := several.await("it has failed", func(state State) bool { return state.Phase == contract.PhaseFailed })
	if !strings.Contains(state.Reason, "several processes") {
		t.Errorf("the reason is %q", state.Reason)
	}
	if _, err := several.Attach(strings.NewReader(""), nil, nil, make(chan struct{})); err == nil {
		t.Error("what never runs is joined")
	}
}
