// SPDX-License-Identifier: Apache-2.0

package power

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Orderly is the end of a guest that booted.
type Orderly struct {
	// Workload stops the supervised processes and runs the post_stop hooks, until the context ends.
	Workload func(context.Context)
	// Quiet is called when every process has ended, or those that are left cannot be: the last moment to write, e.g. to
	// close the logs.
	Quiet func(allEnded bool)
}

// killPatience is how long the workload's processes may take to go after they were killed at the deadline. One that
// waits for a disk does not go at all.
const killPatience = 2 * time.Second

// strayPatience is how long processes that nobody supervises may take after SIGTERM.
const strayPatience = 300 * time.Millisecond

// Run stops everything in order and ends the machine; it does not return.
func (o Orderly) Run(ctx context.Context, action Action) {
	defer Guard()
	var watchdog *time.Timer
	o.stopProcesses(ctx, killStrays, func() { watchdog = startWatchdog(action) })
	unix.Sync()
	unmountAll()
	watchdog.Stop()
	end(action)
}

// stopProcesses ends every process. From `watch` on only disks can be waited for, and not for longer than it allows.
func (o Orderly) stopProcesses(ctx context.Context, killStrays, watch func()) {
	allEnded := o.stopWorkload(ctx)
	killStrays()
	watch()
	if o.Quiet != nil {
		o.Quiet(allEnded)
	}
}

// stopWorkload returns when the workload has stopped, or soon after the context's end.
func (o Orderly) stopWorkload(ctx context.Context) (stopped bool) {
	if o.Workload == nil {
		return true
	}
	done := make(chan struct{})
	go func() {
		defer Guard()
		o.Workload(ctx)
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-done:
		return true
	case <-time.After(killPatience):
		return false
	}
}

// killStrays signals every process but this one (kill(2): -1 spares PID 1), first politely. The reaper collects them.
func killStrays() {
	if unix.Kill(-1, unix.SIGTERM) == unix.ESRCH {
		return
	}
	_ = unix.Kill(-1, unix.SIGCONT)
	deadline := time.Now().Add(strayPatience)
	for time.Now().Before(deadline) {
		if unix.Kill(-1, 0) == unix.ESRCH {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	for range 20 {
		if unix.Kill(-1, 0) == unix.ESRCH {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// unmountAll takes down every mount, the deepest first, and leaves the root read-only.
func unmountAll() {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		for _, target := range mountTargets(data) {
			if !keepsMounted(target) {
				if unix.Unmount(target, 0) != nil {
					_ = unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
				}
			}
		}
	}
	_ = os.Chdir("/")
	if unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "") != nil {
		// Something still writes: the kernel's own emergency remount, then flush what is left.
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("u"), 0)
		unix.Sync()
	}
}

// keepsMounted: what the agent itself needs until the end, and what holds no data.
func keepsMounted(target string) bool {
	for _, kept := range []string{"/proc", "/sys", "/dev", "/run"} {
		if target == kept || strings.HasPrefix(target, kept+"/") {
			return true
		}
	}
	return target == "/"
}

// mountTargets lists the mount points of a mountinfo file (proc_pid_mountinfo(5)), the latest and deepest first.
func mountTargets(mountinfo []byte) []string {
	var targets []string
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 {
			targets = append(targets, unescapeMount(fields[4]))
		}
	}
	for left, right := 0, len(targets)-1; left < right; left, right = left+1, right-1 {
		targets[left], targets[right] = targets[right], targets[left]
	}
	sort.SliceStable(targets, func(i, j int) bool {
		return strings.Count(targets[i], "/") > strings.Count(targets[j], "/")
	})
	return targets
}

var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func unescapeMount(field string) string { return mountEscapes.Replace(field) }
