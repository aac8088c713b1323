// SPDX-License-Identifier: Apache-2.0

// Package boot is the guest's life as one function: from the kernel's first process to the start of the workload, where
// package guest, the running system, takes over.
//
// run is the line; every step of it is a file here or a package beside it. Two kinds of trouble exist: an error that
// run returns makes the boot impossible and powers off with its reason; a warning is shown to the host and the guest
// goes on, because people need a guest with a broken config more than one that is gone.
//
// The order serves the time until the workload starts. Under emulation code that runs for the first time is what
// costs, so whatever the workload does not need is left to settle, after its start.
package boot

import (
	"runtime/debug"
	"time"

	"github.com/volantvm/volant/kestrel/internal/clock"
	"github.com/volantvm/volant/kestrel/internal/disks"
	"github.com/volantvm/volant/kestrel/internal/guest"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/power"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Main is PID 1 of an agent of this version. It does not return.
func Main(version string) {
	defer power.Guard()
	debug.SetGCPercent(-1) // the few megabytes until the workload runs need no collection; settle turns it on
	journal := &guest.Journal{}
	err := run(version, time.Now(), journal)
	journal.Spill()
	power.CannotBoot(err)
}

// run returns only where the boot is impossible.
func run(version string, started time.Time, journal *guest.Journal) error {
	stamps := guest.NewStamps(started)
	if err := prepareProcess(); err != nil {
		return err
	}
	if !hasTimer(timerFile) {
		power.BootAgain("the kernel has found no timer, which it may not on a busy host")
	}
	config, err := readGuestConfig()
	if err != nil {
		return err
	}
	archive, err := openBootArchive()
	if err != nil {
		return err
	}
	woken := &wokenGuest{}
	if config.AwaitsSettings {
		if woken, err = awaitSettings(config, archive, journal); err != nil {
			return err
		}
		config, stamps = woken.settings, guest.NewStamps(time.Now())
	}
	stamps.Note("settings")
	early, later := splitModules(config)
	archive.load(early, journal.Warn)
	stamps.NoteModules()
	woken.takeCards(journal)
	root := startMountingRoot(config.Root, journal)
	resolvers := network.Configure(config.Network, config.Hostname, journal.Warn, func(late network.Resolvers) {
		if len(config.Network.Nameservers) == 0 {
			guest.WriteNames(config, late, journal)
		}
	})
	stamps.Note("network")
	if err := root.enter(); err != nil {
		return err
	}
	stamps.Note("root")
	mountUserland(journal)
	children, err := reaper.Start()
	if err != nil {
		return err
	}
	journal.WarnError(mountSecrets(config.Secrets))
	if err := disks.MountAll(config.Mounts, children, journal.Warn); err != nil {
		return err
	}
	journal.WarnError(archive.installAgent())
	journal.WarnError(clock.SetAtBoot(config.UnixTimeNanoseconds))
	stamps.Note("userland")
	guest.WriteNames(config, resolvers, journal)
	journal.WarnError(network.RuntimeNames().FillEtc(config.VMID))
	stamps.Note("names")
	running := guest.New(version, config, children, stamps, journal)
	running.UsePort(woken.port)
	if err := running.MountFolders(); err != nil {
		return err
	}
	running.Start()
	go running.Settle(guest.Later{
		Wake:    wakeRuntime,
		Drivers: func() { archive.load(later, journal.Warn) },
		Disk: func() {
			root.look()
			archive.coverDiskAgent()
			archive.close()
		},
	})
	running.ServeUntilStopped()
	return nil
}
