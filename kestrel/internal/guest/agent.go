// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/clock"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/control"
	"github.com/volantvm/volant/kestrel/internal/disks"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/power"
	"github.com/volantvm/volant/kestrel/internal/supervise"
)

// The guest is what the control protocol drives.
var _ control.Agent = (*Guest)(nil)

// Hello introduces the agent.
func (g *Guest) Hello() contract.Hello {
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return contract.Hello{
		AgentVersion: g.version,
		Features:     g.features(),
		BootID:       strings.TrimSpace(string(bootID)),
	}
}

// features are what this guest's host may ask for; lines of plain text are read from a serial port alone.
func (g *Guest) features() []string {
	found := []string{"sftp", "streamlocal", "vsock-forward", "workload-forward", "settings-apply", "snapshot", "wake", "volume-grow", "resources-online", "attach"}
	if g.config.Control.Transport == "vsock" {
		return found
	}
	return append(found, "settings-line", "wake-line")
}

// State is the whole state, from what the supervisor and the boot know.
func (g *Guest) State() contract.AgentState {
	supervised := g.supervisor.State()
	userData := g.cloudInit.State()
	state := contract.AgentState{
		Phase:        supervised.Phase,
		Reason:       supervised.Reason,
		Health:       supervised.Health,
		HealthReason: supervised.HealthReason,
		Checks:       supervised.Checks,
		Processes:    supervised.Processes,
		Result:       supervised.Result,
		CloudInit:    userData,
		Addresses:    network.Addresses(),
		Warnings:     g.journal.listWarnings(),
		Boot:         g.stamps.bootTimes(),
		Kernel:       kernelRelease(),
	}
	if state.Result != nil {
		g.resultAsked.tell()
	}
	if state.Phase == "" {
		state.Phase = contract.PhaseBooting
	}
	if state.Health == "" {
		state.Health = contract.HealthUnknown
	}
	if g.life.Err() != nil && state.Phase != contract.PhaseStopped {
		state.Phase = contract.PhaseStopping
	}
	return state
}

func kernelRelease() string {
	var names unix.Utsname
	if unix.Uname(&names) != nil {
		return ""
	}
	return unix.ByteSliceToString(names.Release[:])
}

// Subscribe tells of changes of the state.
func (g *Guest) Subscribe() (changes <-chan struct{}, cancel func()) { return g.changes.subscribe() }

// ReadLogs reads what processes and the agent said.
func (g *Guest) ReadLogs(
	ctx context.Context, query contract.LogQuery, emit func([]contract.LogEntry) error,
) (cursor string, err error) {
	return g.logs.Read(ctx, query, emit)
}

// Stats are the guest's use of its resources.
func (g *Guest) Stats() (contract.AgentStats, error) {
	return readStats("/proc", "/sys/class/net", "/")
}

// ApplySettings changes settings of the manifest.
func (g *Guest) ApplySettings(settings contract.SettingsApply) error {
	return controlError(g.supervisor.Apply(settings))
}

// AuthorizeKey lets a key open sessions for a while.
func (g *Guest) AuthorizeKey(key string, lifetime time.Duration) (hostKey string, err error) {
	if err := g.keys.Authorize(key, lifetime); err != nil {
		return "", err
	}
	return g.hostKey.Public(), nil
}

// RunHook runs hooks by their name.
func (g *Guest) RunHook(ctx context.Context, name string) (exitCode int, err error) {
	exitCode, err = g.supervisor.RunHook(ctx, name)
	return exitCode, controlError(err)
}

// StartProcess starts a process that is not running.
func (g *Guest) StartProcess(name string) error { return controlError(g.supervisor.StartProcess(name)) }

// StopProcess stops a process.
func (g *Guest) StopProcess(name string) error { return controlError(g.supervisor.StopProcess(name)) }

// RestartProcess stops and starts a process.
func (g *Guest) RestartProcess(name string) error {
	return controlError(g.supervisor.RestartProcess(name))
}

// SetClock brings the guest's clock to the host's.
func (g *Guest) SetClock(now time.Time) error { return clock.Set(now) }

// TakeResources makes use of processors and memory that have come to the machine.
func (g *Guest) TakeResources() error { return takeResources("/sys/devices/system") }

// GrowVolume makes the file system of a volume as large as its disk has become.
func (g *Guest) GrowVolume(serial string) error {
	for _, mount := range g.current.Load().Mounts {
		if mount.Serial == serial && !mount.ReadOnly {
			return disks.Grow(serial, mount.Target, g.journal.Warn)
		}
	}
	return &control.Error{Code: contract.ErrorNotFound, Message: fmt.Sprintf("no volume %q is mounted for writing", serial)}
}

// Stop begins the end of the guest.
func (g *Guest) Stop(request contract.PowerStop) error {
	action := power.Action(request.Action)
	if action != power.PowerOff && action != power.Reboot {
		return fmt.Errorf("cannot %q: the actions are poweroff and reboot", request.Action)
	}
	deadline := time.Duration(request.DeadlineSeconds * float64(time.Second))
	g.requests.Ask(power.Request{Action: action, Deadline: deadline, Origin: "the host"})
	return nil
}

// controlError gives the supervisor's errors their code in the control protocol.
func controlError(err error) error {
	var supervised *supervise.Error
	if errors.As(err, &supervised) {
		return &control.Error{Code: supervised.Code, Message: supervised.Message}
	}
	return err
}
