// SPDX-License-Identifier: Apache-2.0

package power

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestMountsComeDownDeepestFirst(t *testing.T) {
	mountinfo := []byte(`23 1 254:0 / / rw - ext4 /dev/vda rw
24 23 0:20 / /data rw - ext4 /dev/vdb rw
25 24 0:21 / /data/with\040space rw - ext4 /dev/vdc rw
26 23 0:22 / /data rw - tmpfs tmpfs rw
27 23 0:23 / /proc rw - proc proc rw
`)
	want := []string{"/data/with space", "/proc", "/data", "/data", "/"}
	if got := mountTargets(mountinfo); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheAgentKeepsWhatItNeedsUntilTheEnd(t *testing.T) {
	for target, kept := range map[string]bool{
		"/": true, "/run": true, "/run/kestrel/bin/kestrel": true, "/dev/shm": true, "/proc": true,
		"/data": false, "/running": false, "/usr/local/bin/kestrel": false,
	} {
		if keepsMounted(target) != kept {
			t.Errorf("%s: want %v", target, kept)
		}
	}
}

func TestTheFirstRequestCounts(t *testing.T) {
	requests := make(Requests, 1)
	if !requests.Ask(Request{Action: Reboot}) || requests.Ask(Request{Action: PowerOff}) {
		t.Error("the second request was taken")
	}
	if request := <-requests; request.Action != Reboot {
		t.Errorf("the request is %v", request)
	}
}

func TestAnInternalErrorEndsTheMachine(t *testing.T) {
	ended := make(chan Action, 1)
	original := end
	end = func(action Action) { ended <- action }
	defer func() { end = original }()
	go func() {
		defer Guard()
		panic(errors.New("what nobody expected"))
	}()
	select {
	case action := <-ended:
		if action != PowerOff {
			t.Errorf("the end is %s", action)
		}
	case <-time.After(time.Minute):
		t.Error("nothing happened")
	}
}

func TestProcessesStopInOrder(t *testing.T) {
	var stopped []string
	orderly := Orderly{
		Workload: func(context.Context) { stopped = append(stopped, "workload") },
		Quiet: func(allEnded bool) {
			stopped = append(stopped, "quiet")
			if !allEnded {
				t.Error("the workload did end")
			}
		},
	}
	note := func(what string) func() { return func() { stopped = append(stopped, what) } }
	orderly.stopProcesses(context.Background(), note("strays"), note("watch"))
	if !slices.Equal(stopped, []string{"workload", "strays", "watch", "quiet"}) {
		t.Errorf("the order is %v", stopped)
	}
}

func TestAWorkloadThatCannotEndIsLeftBehind(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	never, ended := make(chan struct{}), make(chan bool, 1)
	defer close(never)
	orderly := Orderly{
		Workload: func(context.Context) { cancel(); <-never },
		Quiet:    func(allEnded bool) { ended <- allEnded },
	}
	orderly.stopProcesses(ctx, func() {}, func() {})
	if <-ended {
		t.Error("what did not end is taken for ended")
	}
}
