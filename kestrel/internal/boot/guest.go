// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/clock"
	"github.com/volantvm/volant/kestrel/internal/cloudinit"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/modules"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/power"
	"github.com/volantvm/volant/kestrel/internal/reaper"
	"github.com/volantvm/volant/kestrel/internal/secrets"
	"github.com/volantvm/volant/kestrel/internal/snapshot"
	"github.com/volantvm/volant/kestrel/internal/sshd"
	"github.com/volantvm/volant/kestrel/internal/supervise"
)

const (
	// Stopping takes this much longer than the slowest process may: hooks, unmounting.
	stopReserve = 5 * time.Second
	// A batch guest waits for its host to read the result before it powers off.
	resultPatience = 500 * time.Millisecond
	// Settling leaves the processor to the workload's start for so long; a workload that waits for the host (hooks,
	// user-data, a secret) may need what is settled.
	yieldTime = 300 * time.Millisecond
	// The times of the boot are told with the workload's start, or without it after this time.
	execPatience = 5 * time.Second
	// How long a stuck serial line may hold up power-off.
	consolePatience = 300 * time.Millisecond
)

// guest is the running system: what serves the host and what the supervisor runs.
type guest struct {
	version    string
	config     *contract.GuestConfig // that it booted with
	journal    *journal
	stamps     *stamps
	children   *reaper.Reaper
	console    *logs.Console
	logs       *logs.Store
	supervisor *supervise.Supervisor
	secrets    *secrets.Ports
	cloudInit  *cloudinit.Runner
	keys       *sshd.Keys
	requests   power.Requests
	changes    *changes
	life       context.Context // ends when the guest begins to stop
	stop       context.CancelFunc

	hostKey     *sshd.HostKey // of every door; set before the first is opened
	hostsKeys   *sshd.Keys    // by which volantd comes in
	freezer     *snapshot.Freezer
	current     atomic.Pointer[contract.GuestConfig] // another than config in a copy of a snapshot
	doorsOpen   chan struct{}
	networkDoor sync.Once
}

func newGuest(
	version string, config *contract.GuestConfig, children *reaper.Reaper, stamps *stamps, journal *journal,
) *guest {
	life, stop := context.WithCancel(context.Background())
	guest := &guest{
		version:  version,
		config:   config,
		journal:  journal,
		stamps:   stamps,
		children: children,
		keys:     sshd.NewKeys(),
		requests: power.NewRequests(),
		changes:  newChanges(),
		life:     life,
		stop:     stop,

		hostKey:   &sshd.HostKey{},
		hostsKeys: sshd.NewKeys(),
		freezer:   snapshot.NewFreezer(),
		doorsOpen: make(chan struct{}),
	}
	guest.current.Store(config)
	guest.openLogs()
	guest.secrets = secrets.New(secrets.Options{
		Attached:       config.Secrets,
		AnsweredByHost: config.Control.Transport == "vsock",
		Logf:           journal.say,
	})
	guest.supervisor = supervise.New(supervise.Options{
		Reaper:       children,
		Logs:         guest.logs,
		Image:        readImageConfig(contract.ImageConfigPath, journal),
		Workload:     config.Workload,
		HealthCheck:  config.HealthCheck,
		WaitForVsock: guest.secrets.Wait,
		OnFirstExec:  stamps.noteExec,
		OnResult:     guest.endWithResult,
		OnInitEnd:    guest.endWithInit,
	})
	guest.cloudInit = cloudinit.New(cloudinit.Options{
		Documents:   config.CloudInit,
		Reaper:      children,
		Environment: guest.supervisor.Environment,
		Changed:     guest.changes.tell,
		Logf:        journal.say,
	})
	return guest
}

// openLogs keeps logs on the disk, or in RAM where that cannot be written. A guest without any is not worth having.
func (g *guest) openLogs() {
	output, err := os.OpenFile(g.config.Console, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		output = os.Stderr
	}
	g.console = logs.NewConsole(output)
	g.logs = logs.OpenLater(logs.Options{Console: g.console}, power.CannotBoot)
	g.journal.attach(g.logs, g.changes.tell)
}

// start begins what the guest exists for: at once, or when user-data has been applied. That may take its time, and
// people can look in meanwhile.
func (g *guest) start() {
	go func() {
		defer power.Guard()
		g.followSupervisor()
	}()
	if g.config.CloudInit == nil {
		g.supervisor.Start()
		return
	}
	go func() {
		defer power.Guard()
		g.cloudInit.Run(g.life)
		if g.life.Err() == nil {
			g.supervisor.Start()
			g.openNetwork()
		}
	}()
}

// followSupervisor passes changes on to whoever watches the guest's state.
func (g *guest) followSupervisor() {
	changed, cancel := g.supervisor.Subscribe()
	defer cancel()
	for range changed {
		g.changes.tell()
	}
}

// settle does what can wait until the workload has been started, in the order in which people notice.
func (g *guest) settle(archive bootArchive, drivers []string, root *rootDisk) {
	defer power.Guard()
	g.waitForExec(yieldTime)
	wakeRuntime()
	g.journal.warnError(modules.Show())
	began := time.Now()
	archive.load(drivers, g.journal.warn)
	g.stamps.noteFurtherModules(time.Since(began))
	g.openDoors()
	if g.life.Err() != nil { // what follows would keep the disk busy while it is unmounted
		return
	}
	root.look()
	archive.coverDiskAgent()
	archive.close()
	network.Announce(g.config.Network)
	network.AllowPings()
	limitMemory()
	g.sayStamps()
	g.journal.warnError(checkEntropy())
	clock.FollowPTP(g.journal.warn)
}

// sayStamps tells how long the boot took.
func (g *guest) sayStamps() {
	g.waitForExec(execPatience)
	g.journal.say("boot: %v", g.stamps)
}

// waitForExec returns when the workload has been started, will not be, or after a while.
func (g *guest) waitForExec(patience time.Duration) {
	if g.supervisor.State().Phase == contract.PhaseFailed {
		return
	}
	select {
	case <-g.stamps.executed:
	case <-time.After(patience):
	}
}

// limitMemory trades a little of the processor for memory, of which guests have little.
func limitMemory() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(24 << 20)
	debug.FreeOSMemory()
}

// endWithResult ends the guest of a batch workload. The host sees the result in the state before the machine goes.
func (g *guest) endWithResult(code int) {
	g.journal.say("the workload has ended with %d: powering off", code)
	g.changes.tell()
	time.AfterFunc(resultPatience, func() { g.requests.Ask(power.Request{Action: power.PowerOff, Origin: "result"}) })
}

// endWithInit ends the guest because somebody has asked the workload's own init to: to them the two are one machine.
func (g *guest) endWithInit(reboot bool) {
	action := power.PowerOff
	if reboot {
		action = power.Reboot
	}
	g.requests.Ask(power.Request{Action: action, Origin: "the workload's init"})
}

// serveUntilStopped waits for the first request to end and carries it out; it does not return.
func (g *guest) serveUntilStopped() {
	request := <-g.requests
	g.stop()
	g.changes.tell()
	g.journal.say("%s asked for by %s", request.Action, request.Origin)
	deadline := request.Deadline
	if deadline <= 0 {
		deadline = g.supervisor.StopDeadline() + stopReserve
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	power.Orderly{Workload: g.supervisor.Stop, Quiet: g.closeLogs}.Run(ctx, request.Action)
}

func (g *guest) closeLogs(allEnded bool) {
	if allEnded {
		g.journal.say("all processes have stopped")
	} else {
		g.journal.say("not all processes have ended: they cannot be killed, so the guest ends without them")
	}
	g.logs.Close()
	g.console.Close(consolePatience)
}
