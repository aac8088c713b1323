// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var children *Reaper

func TestMain(m *testing.M) {
	if os.Getenv("REAPER_TEST_BURST") != "" {
		burst()
		return
	}
	var err error
	if children, err = Start(); err != nil {
		panic(err)
	}
	code := m.Run()
	children.Close()
	os.Exit(code)
}

// burst is what the test program does when it is started as a parent that leaves orphans: it starts as many
// children as it is told, which end when it does not look any more.
func burst() {
	count, err := strconv.Atoi(os.Getenv("REAPER_TEST_BURST"))
	if err != nil {
		os.Exit(2)
	}
	for range count {
		if _, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{}); err != nil {
			os.Exit(3)
		}
	}
}

const patience = 60 * time.Second

func TestStatusesAreNeverStolen(t *testing.T) {
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for index := range 50 {
				code := (worker*50 + index) % 256
				process, err := children.Start(Command{
					Path: "/bin/sh", Arguments: []string{"sh", "-c", fmt.Sprintf("exit %d", code)},
				})
				if err != nil {
					t.Error(err)
					return
				}
				if status := process.Wait(); status.Code != code || status.Signal != 0 {
					t.Errorf("status is %v, want code %d", status, code)
				}
			}
		})
	}
	all.Wait()
}

func TestTenThousandOrphansInABurstDoNotDisturbASupervisedStatus(t *testing.T) {
	count := 10_000
	if testing.Short() {
		count = 1000
	}
	before := children.Orphans()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const parents = 4
	for range parents {
		_, err := children.Start(Command{
			Path: self, Env: []string{fmt.Sprintf("REAPER_TEST_BURST=%d", count/parents)},
			Attributes: &syscall.SysProcAttr{Setpgid: true},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	supervised := 0
	for limit := time.Now().Add(patience); children.Orphans()-before < uint64(count); supervised++ {
		if time.Now().After(limit) {
			t.Fatalf("%d of %d orphans were reaped", children.Orphans()-before, count)
		}
		process, err := children.Start(Command{Path: "/bin/sh", Arguments: []string{"sh", "-c", "exit 42"}})
		if err != nil {
			t.Fatal(err)
		}
		if status := process.Wait(); status.Code != 42 {
			t.Errorf("status is %v", status)
		}
	}
	t.Logf("%d orphans beside %d supervised processes", count, supervised)
}

func TestSignalsAndGroups(t *testing.T) {
	process, err := children.Start(Command{
		Path: "/bin/sh", Arguments: []string{"sh", "-c", "sleep 1000 & wait"},
		Attributes: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := process.SignalGroup(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := process.Wait(); status.Signal != unix.SIGTERM || status.ExitCode() != 143 || status.Success() || status.String() != "killed by SIGTERM" {
		t.Errorf("status is %v", status)
	}
	if err := process.Signal(unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("signalling a reaped process: %v", err)
	}
	for limit := time.Now().Add(patience); process.SignalRest(0) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the group is still there")
		}
	}
}

func TestRestOfAGroupCanBeKilledAfterItsLeader(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	process, err := children.Start(Command{
		Path: "/bin/sh", Arguments: []string{"sh", "-c", "sleep 1000 & exit 0"},
		Attributes: &syscall.SysProcAttr{Setpgid: true}, Files: []*os.File{nil, write}, Release: []*os.File{write},
	})
	if err != nil {
		t.Fatal(err)
	}
	process.Wait()
	if err := process.SignalRest(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := read.Read(make([]byte, 1)); err == nil { // end of file: nobody holds the pipe any more
		t.Error("something was written")
	}
}

func TestStartCommandKeepsTheStatusAndTheOutput(t *testing.T) {
	for range 50 {
		var output bytes.Buffer
		command := exec.Command("sh", "-c", "echo said; exit 9")
		command.Stdout = &output
		process, err := children.StartCommand(command)
		if err != nil {
			t.Fatal(err)
		}
		status, err := process.WaitCommand(command)
		if err != nil || status.Code != 9 || output.String() != "said\n" {
			t.Fatalf("status %v, output %q, error %v", status, output.String(), err)
		}
	}
}

func TestRunGroupKillsAtTheEndOfItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	status, err := children.RunGroup(ctx, Command{Path: "/bin/sh", Arguments: []string{"sh", "-c", "trap '' TERM; sleep 1000; true"}})
	if !errors.Is(err, context.DeadlineExceeded) || status.Signal != unix.SIGKILL {
		t.Errorf("status %v, error %v", status, err)
	}
	status, err = children.RunGroup(context.Background(), Command{Path: "/bin/sh", Arguments: []string{"sh", "-c", "exit 3"}})
	if err != nil || status.Code != 3 {
		t.Errorf("status %v, error %v", status, err)
	}
}

func TestAFailedStartSaysWhichFileAndReleasesItsFiles(t *testing.T) {
	_, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, err = children.Start(Command{Path: "/no/such/program", Release: []*os.File{write}})
	var failure *os.PathError
	if !errors.As(err, &failure) || failure.Path != "/no/such/program" || !errors.Is(err, unix.ENOENT) {
		t.Errorf("error is %v", err)
	}
	if err := write.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file was not released: %v", err)
	}
}

func TestAdopt(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	process, err := children.Start(Command{
		Path: "/bin/sh", Arguments: []string{"sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & exit 0"},
		Files: []*os.File{nil, write}, Release: []*os.File{write},
	})
	if err != nil {
		t.Fatal(err)
	}
	process.Wait()
	line := make([]byte, 32)
	count, err := read.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line[:count])))
	if err != nil {
		t.Fatal(err)
	}
	var adopted *Process
	for limit := time.Now().Add(patience); adopted == nil && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		adopted = children.Adopt(pid)
	}
	if adopted == nil || !children.Knows(pid) || children.Adopt(pid) != nil {
		t.Fatal("the orphan was not adopted, or twice")
	}
	if err := adopted.SignalGroup(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status := adopted.Wait(); status.Signal != unix.SIGKILL {
		t.Errorf("status is %v", status)
	}
	if children.Adopt(1<<22-1) != nil || children.Adopt(1) != nil {
		t.Error("somebody else's process was adopted")
	}
}
