// SPDX-License-Identifier: Apache-2.0

// Package guest is the running system, from the workload's start to power-off: what serves the host and people, what
// the supervisor runs, and how all of it ends. What comes before is package boot's.
package guest

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
	"github.com/volantvm/volant/kestrel/internal/stream"
	"github.com/volantvm/volant/kestrel/internal/supervise"
)

const (
	// Stopping takes this much longer than the slowest process may: hooks, unmounting.
	stopReserve = 5 * time.Second
	// A batch guest waits so long for its host to ask for the result, and then until it has been sent, before it powers off.
	// One that was stopped has been connected for long, or nobody is interested.
	resultPatience  = 20 * time.Second
	stoppedPatience = 2 * time.Second
	sendPatience    = 500 * time.Millisecond
	// Settling leaves the processor to the workload's start for so long; a workload that waits for the host (hooks,
	// user-data, a secret) may need what is settled.
	yieldTime = 300 * time.Millisecond
	// The same until a workload that has been started is well: whoever made the VM waits for that rather than for us.
	wellPatience = 2 * time.Second
	// The times of the boot are told with the workload's start, or without it after this time.
	execPatience = 5 * time.Second
	// How long a stuck serial line may hold up power-off.
	consolePatience = 300 * time.Millisecond
)

// resultOrigin asks for the end because the workload has had its own.
const resultOrigin = "result"

// Later is what the boot leaves until the workload has been started.
type Later struct {
	Wake    func() // lets goroutines take turns
	Drivers func() // loads the drivers that nothing has waited for
	Disk    func() // looks after the root disk and the agent's file on it, and lets go of the boot archive
}

// Guest is the running system: what serves the host and what the supervisor runs.
type Guest struct {
	version    string
	config     *contract.GuestConfig // that it booted with
	journal    *Journal
	stamps     *Stamps
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
	resultAsked event                                // somebody was told the result of a batch workload
	current     atomic.Pointer[contract.GuestConfig] // another than config in a copy of a snapshot
	doorsOpen   chan struct{}
	port        *stream.Port         // of the host, where it was opened before
	holding     sync.Mutex           // one act of holding the guest or letting it go at a time
	held        atomic.Pointer[hold] // for a snapshot; a copy of it is, too, until it has become another VM
	networkDoor sync.Once
}

func New(
	version string, config *contract.GuestConfig, children *reaper.Reaper, stamps *Stamps, journal *Journal,
) *Guest {
	life, stop := context.WithCancel(context.Background())
	guest := &Guest{
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

		hostKey:     &sshd.HostKey{},
		hostsKeys:   sshd.NewKeys(),
		freezer:     snapshot.NewFreezer(),
		doorsOpen:   make(chan struct{}),
		resultAsked: newEvent(),
	}
	guest.current.Store(config)
	guest.openLogs()
	guest.secrets = secrets.New(secrets.Options{
		Attached:       config.Secrets,
		AnsweredByHost: config.Control.Transport == "vsock",
		Logf:           journal.Say,
	})
	workload := config.Workload
	workload.Env = readEnvironment(config.EnvironmentFolders, workload.Env, journal.Warn)
	guest.supervisor = supervise.New(supervise.Options{
		Reaper:       children,
		Logs:         guest.logs,
		Image:        readImageConfig(contract.ImageConfigPath, journal),
		Workload:     workload,
		HealthCheck:  config.HealthCheck,
		Prepare:      guest.placeFiles,
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
		Logf:        journal.Say,
	})
	return guest
}

// UsePort has the host served on a port that was opened already; nil: on one of its own.
func (g *Guest) UsePort(port *stream.Port) { g.port = port }

// openLogs keeps logs on the disk, or in RAM where that cannot be written. A guest without any is not worth having.
func (g *Guest) openLogs() {
	output, err := os.OpenFile(g.config.Console, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		output = os.Stderr
	}
	g.console = logs.NewConsole(output)
	g.logs = logs.OpenLater(logs.Options{Console: g.console}, power.CannotBoot)
	g.journal.attach(g.logs, g.changes.tell)
}

// Start begins what the guest exists for: at once, or when user-data has been applied. That may take its time, and
// people can look in meanwhile.
func (g *Guest) Start() {
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
func (g *Guest) followSupervisor() {
	changed, cancel := g.supervisor.Subscribe()
	defer cancel()
	for range changed {
		g.changes.tell()
	}
}

// Settle does what can wait until the workload has been started, in the order in which people notice.
func (g *Guest) Settle(later Later) {
	defer power.Guard()
	g.waitForExec(yieldTime)
	later.Wake()
	network.Announce(g.config.Network) // who connects to the workload may not find it before
	g.waitUntilWell()
	g.journal.WarnError(modules.Show())
	began := time.Now()
	later.Drivers()
	g.stamps.noteFurtherModules(time.Since(began))
	g.openDoors()
	if len(g.config.Control.AuthorizedKeys) == 0 && !g.requests.FollowButtons() {
		g.journal.Warn("this machine has no power button, and no host may come in: nobody can ask it to stop")
	}
	if g.life.Err() != nil { // what follows would keep the disk busy while it is unmounted
		return
	}
	later.Disk()
	network.AllowPings()
	limitMemory()
	g.sayStamps()
	g.journal.WarnError(checkEntropy())
	g.journal.WarnError(modules.LoadHostClock())
	clock.FollowPTP(g.journal.Warn)
}

// sayStamps tells how long the boot took.
func (g *Guest) sayStamps() {
	g.waitForExec(execPatience)
	g.journal.Say("boot: %v", g.stamps)
}

// waitForExec returns when the workload has been started, will not be, or after a while.
func (g *Guest) waitForExec(patience time.Duration) {
	if g.supervisor.State().Phase == contract.PhaseFailed {
		return
	}
	select {
	case <-g.stamps.executed:
	case <-time.After(patience):
	}
}

// waitUntilWell returns when the workload's checks say that it is well or not, when nothing is asked, or after a while.
// A workload that is to read secrets needs what is settled.
func (g *Guest) waitUntilWell() {
	if !g.stamps.hasExecuted() || len(g.config.Secrets) > 0 {
		return
	}
	changed, cancel := g.supervisor.Subscribe()
	defer cancel()
	for patience := time.After(wellPatience); g.supervisor.State().Health == contract.HealthStarting; {
		select {
		case <-changed:
		case <-g.life.Done():
			return
		case <-patience:
			return
		}
	}
}

// limitMemory trades a little of the processor for memory, of which guests have little.
func limitMemory() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(24 << 20)
	debug.FreeOSMemory()
}

// endWithResult ends the guest of a batch workload. The host sees the result in the state before the machine goes: on a
// busy host it may not even have connected when a short command has ended.
func (g *Guest) endWithResult(code int) {
	g.journal.Say("the workload has ended with %d: powering off", code)
	g.changes.tell()
	go func() {
		defer power.Guard()
		g.waitUntilResultIsTold(resultPatience)
		g.requests.Ask(power.Request{Action: power.PowerOff, Origin: resultOrigin})
	}()
}

// waitUntilResultIsTold returns when the host should know how a batch workload has ended.
func (g *Guest) waitUntilResultIsTold(patience time.Duration) {
	select {
	case <-g.resultAsked.happened:
	case <-time.After(patience):
	}
	g.supervisor.WaitServed(stoppedPatience)
	time.Sleep(sendPatience)
}

// endWithInit ends the guest because somebody has asked the workload's own init to: to them the two are one machine.
func (g *Guest) endWithInit(reboot bool) {
	action := power.PowerOff
	if reboot {
		action = power.Reboot
	}
	g.requests.Ask(power.Request{Action: action, Origin: "the workload's init"})
}

// ServeUntilStopped waits for the first request to end and carries it out; it does not return.
func (g *Guest) ServeUntilStopped() {
	request := <-g.requests
	g.stop()
	g.changes.tell()
	g.journal.Say("%s asked for by %s", request.Action, request.Origin)
	deadline := request.Deadline
	if deadline <= 0 {
		deadline = g.supervisor.StopDeadline() + stopReserve
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	quiet := func(allEnded bool) {
		if request.Origin != resultOrigin && g.supervisor.State().Result != nil {
			g.waitUntilResultIsTold(stoppedPatience)
		}
		g.closeLogs(allEnded)
	}
	power.Orderly{Workload: g.stopWorkload, Quiet: quiet}.Run(ctx, request.Action)
}

func (g *Guest) closeLogs(allEnded bool) {
	if allEnded {
		g.journal.Say("all processes have stopped")
	} else {
		g.journal.Say("not all processes have ended: they cannot be killed, so the guest ends without them")
	}
	g.logs.Close()
	g.console.Close(consolePatience)
}
