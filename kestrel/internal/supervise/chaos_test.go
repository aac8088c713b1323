// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// chaosFor is how long the chaos lasts: a moment in every run, minutes with KESTREL_CHAOS=3m.
func chaosFor(t *testing.T) time.Duration {
	text := os.Getenv("KESTREL_CHAOS")
	if text == "" {
		return time.Second
	}
	duration, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return duration
}

// Processes are killed, stopped, restarted, flood their logs, leave orphans and put themselves into the background,
// all at once, while readers come and go. At the end every state is right and nothing is leaked.
func TestChaos(t *testing.T) {
	descriptors := countDescriptors(t)
	const count = 12
	var yaml strings.Builder
	yaml.WriteString("exec:\n")
	for index := range count {
		script := []string{
			"exec sleep 1000",
			"while :; do echo some text that is written again and again; done",
			"for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; exec sleep 1000",
			"sleep 0.1; exit 3",
		}[index%4]
		fmt.Fprintf(&yaml, "  - {name: p%d, backoff: 10ms, restart: always, stop_timeout: 200ms, command: sh, args: [-c, %q]", index, script)
		if index%4 != 3 && index >= 4 {
			fmt.Fprintf(&yaml, ", depends_on: [p%d]", index-4)
		}
		yaml.WriteString("}\n")
	}
	g := startGuest(t, yaml.String(), nil)
	end := time.Now().Add(chaosFor(t))
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				name := fmt.Sprintf("p%d", rand.IntN(count))
				switch rand.IntN(6) {
				case 0:
					_ = g.StopProcess(name)
				case 1:
					_ = g.RestartProcess(name)
				case 2:
					_ = g.StartProcess(name)
				default:
					if process := find(g.State(), name); process.PID != nil {
						_ = unix.Kill(*process.PID, []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGSEGV, unix.SIGSTOP}[rand.IntN(4)])
					}
				}
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			}
		})
		all.Go(func() {
			for ctx.Err() == nil {
				reading, stop := context.WithTimeout(ctx, time.Duration(rand.IntN(100))*time.Millisecond)
				tail := rand.IntN(100)
				_, err := g.store.Read(reading, contract.LogQuery{Follow: true, Tail: &tail}, func([]contract.LogEntry) error { return nil })
				stop()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for index := range count {
		if err := g.RestartProcess(fmt.Sprintf("p%d", index)); err != nil {
			t.Error(err)
		}
	}
	g.await("all that can run, runs", func(state State) bool {
		for index := range count {
			if index%4 != 3 && find(state, fmt.Sprintf("p%d", index)).State != contract.ProcessRunning {
				return false
			}
		}
		return true
	})
	var pids []int
	for _, process := range g.State().Processes {
		if process.PID != nil {
			pids = append(pids, *process.PID)
		}
	}
	g.stopWithin(patience)
	g.store.Close()
	for _, process := range g.State().Processes {
		if process.State != contract.ProcessStopped || process.PID != nil {
			t.Errorf("process %s is %s", process.Name, process.State)
		}
	}
	for _, pid := range pids {
		awaitGone(t, pid)
	}
	limit := time.Now().Add(patience)
	for countDescriptors(t) > descriptors || runtime.NumGoroutine() > 20 {
		if time.Now().After(limit) {
			t.Fatalf("%d descriptors before, %d after; %d goroutines", descriptors, countDescriptors(t), runtime.NumGoroutine())
		}
		time.Sleep(5 * time.Millisecond)
	}
}
