// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// ticksPerSecond is USER_HZ, the unit of start times in /proc, which is 100 on every architecture that we boot.
const ticksPerSecond = 100

// followBackground notices a program that put itself into the background: it exited 0 and left a process that PID 1
// inherited. Such a process is followed instead of being taken for the end of the program.
func (p *process) followBackground(child *reaper.Process, begun time.Time) *reaper.Process {
	if p.spec.runOnce || !child.Wait().Success() {
		return nil
	}
	candidates := p.cgroup.members()
	if p.cgroup.directory == nil {
		candidates = findInherited(child.PID(), begun)
	}
	for _, candidate := range candidates {
		if stat, ok := readStat(candidate); !ok || stat.parent != os.Getpid() || stat.zombie {
			continue // its parent is another survivor, or it is gone
		}
		next := p.supervisor.options.Reaper.Adopt(candidate)
		if next == nil {
			continue
		}
		reason := fmt.Sprintf("put itself into the background as pid %d; let it run in the foreground", next.PID())
		p.supervisor.options.Logs.Say("process %s %s", p.spec.name, reason)
		p.update(func() { p.child, p.state, p.reason = next, contract.ProcessRunning, reason })
		return next
	}
	return nil
}

// findInherited is for machines without cgroups: it lists our children that may come from a program which led group
// and session `leader` and began at `begun`, the likeliest first: those of its group or session, then any as young.
func findInherited(leader int, begun time.Time) []int {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil
	}
	earliest := (now.Nano() - time.Since(begun).Nanoseconds()) * ticksPerSecond / 1e9
	ours := strconv.Itoa(os.Getpid())
	children, err := os.ReadFile("/proc/self/task/" + ours + "/children")
	pids := strings.Fields(string(children))
	if err != nil {
		pids = listProcesses()
	}
	var related, young []int
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			continue
		}
		stat, ok := readStat(pid)
		if !ok || stat.parent != os.Getpid() || stat.zombie {
			continue
		}
		switch {
		case stat.group == leader || stat.session == leader:
			related = append(related, pid)
		case stat.start >= earliest-1:
			young = append(young, pid)
		}
	}
	return append(related, young...)
}

func listProcesses() []string {
	folder, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = folder.Close() }()
	names, _ := folder.Readdirnames(-1)
	return names
}

type processStat struct {
	parent, group, session int
	start                  int64
	zombie                 bool
}

// readStat reads /proc/PID/stat (proc(5)). The name in parentheses may hold anything, also parentheses.
func readStat(pid int) (processStat, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processStat{}, false
	}
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return processStat{}, false
	}
	fields := strings.Fields(string(data[end+1:])) // from field 3, the state
	if len(fields) < 20 {
		return processStat{}, false
	}
	var stat processStat
	var problems [4]error
	stat.zombie = fields[0] == "Z" || fields[0] == "X"
	stat.parent, problems[0] = strconv.Atoi(fields[1])
	stat.group, problems[1] = strconv.Atoi(fields[2])
	stat.session, problems[2] = strconv.Atoi(fields[3])
	stat.start, problems[3] = strconv.ParseInt(fields[19], 10, 64)
	for _, problem := range problems {
		if problem != nil {
			return processStat{}, false
		}
	}
	return stat, true
}

// noKills is the count of a kernel that has killed nothing, or does not count.
const noKills = "0"

// memoryWatch tells whether the kernel has killed something for lack of memory since the last question.
type memoryWatch struct {
	mutex sync.Mutex
	kills string
}

// firstKills spares PID 1 a look at a file that takes the kernel milliseconds to write: nothing was killed before it.
func firstKills() string {
	if os.Getpid() == 1 {
		return noKills
	}
	return readKills()
}

func readKills() string {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return noKills
	}
	for line := range strings.Lines(string(data)) {
		if count, found := strings.CutPrefix(line, "oom_kill "); found {
			return strings.TrimSpace(count)
		}
	}
	return noKills
}

func (m *memoryWatch) ranOut() bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	before := m.kills
	m.kills = readKills()
	return before != m.kills
}
