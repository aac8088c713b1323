// SPDX-License-Identifier: Apache-2.0

// Package boot is the guest's life as one function: from the kernel's first process to power-off.
//
// Run is the line; every step of it is a file here or a package beside it. Two kinds of trouble exist: an error that
// Run returns makes the boot impossible and powers off with its reason, a warning is shown to the host and the guest
// goes on, because people need a guest with a broken config more than one that is gone.
package boot

import (
	"fmt"
	"time"

	"github.com/volantvm/volant/kestrel/internal/clock"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/power"
)

// Main is PID 1. It does not return.
func Main() {
	defer power.Guard()
	power.CannotBoot(run(time.Now()))
}

func run(started time.Time) error {
	warnings := &Warnings{}
	stamps := newStamps(started)
	if err := prepareProcess(); err != nil {
		return err
	}
	guest, err := readGuestConfig()
	if err != nil {
		return err
	}
	stamps.note("mounts")
	loadModules(guest.Modules, warnings.Add)
	stamps.noteModules()
	if err := enterRootOf(guest, warnings); err != nil {
		return err
	}
	stamps.note("root")
	warnings.AddError(clock.SetAtBoot(guest.UnixTimeNanoseconds))
	resolvers := network.Configure(guest.Network, guest.Hostname, warnings.Add)
	warnings.AddError(network.RuntimeNames().Write(guest.Hostname, guest.Network.Hosts, network.Addresses(), resolvers))
	stamps.note("network")
	return serve(guest, warnings, stamps)
}

// enterRootOf makes the root disk, or the boot archive itself for a plugin that lives in RAM, a Linux userland.
func enterRootOf(guest *contract.GuestConfig, warnings *Warnings) error {
	agent, err := openAgentFile()
	if err != nil {
		return err
	}
	releaseBootArchive()
	if guest.Root != nil {
		if err := enterRoot(*guest.Root, warnings); err != nil {
			return err
		}
	}
	mountUserland(warnings)
	warnings.AddError(agent.install())
	network.AllowUnprivilegedPorts()
	return nil
}

// stamps tell how long each phase of the boot took.
type stamps struct {
	started, last time.Time
	modules       time.Duration
	text          string
}

func newStamps(started time.Time) *stamps { return &stamps{started: started, last: started} }

func (s *stamps) lap() time.Duration {
	now := time.Now()
	took := now.Sub(s.last)
	s.last = now
	return took
}

func (s *stamps) note(phase string) {
	s.text += fmt.Sprintf(", %s %.1f", phase, milliseconds(s.lap()))
}

func (s *stamps) noteModules() { s.modules += s.lap() }

// finish gives the times since main started, without the loading of modules, and prints them.
func (s *stamps) finish(phase string) contract.BootTimes {
	s.note(phase)
	times := contract.BootTimes{
		ModuleLoadMs: milliseconds(s.modules),
		MainToExecMs: milliseconds(s.last.Sub(s.started) - s.modules),
	}
	tell("boot: main to exec %.1f ms (%s), modules %.1f ms", times.MainToExecMs, s.text[2:], times.ModuleLoadMs)
	return times
}

func milliseconds(duration time.Duration) float64 {
	return float64(duration.Microseconds()) / 1000
}
