// SPDX-License-Identifier: Apache-2.0

// Package boot is the guest's life as one function: from the kernel's first process to power-off.
//
// run is the line; every step of it is a file here or a package beside it. Two kinds of trouble exist: an error that
// run returns makes the boot impossible and powers off with its reason; a warning is shown to the host and the guest
// goes on, because people need a guest with a broken config more than one that is gone.
//
// The order serves the time until the workload starts. Under emulation code that runs for the first time is what
// costs, so whatever the workload does not need is left to settle, after its start.
package boot

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/volantvm/volant/kestrel/internal/clock"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/power"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Main is PID 1 of an agent of this version. It does not return.
func Main(version string) {
	defer power.Guard()
	debug.SetGCPercent(-1) // the few megabytes until the workload runs need no collection; settle turns it on
	journal := &journal{}
	err := run(version, time.Now(), journal)
	journal.spill()
	power.CannotBoot(err)
}

// run returns only where the boot is impossible.
func run(version string, started time.Time, journal *journal) error {
	stamps := newStamps(started)
	if err := prepareProcess(); err != nil {
		return err
	}
	config, err := readGuestConfig()
	if err != nil {
		return err
	}
	archive, err := openBootArchive()
	if err != nil {
		return err
	}
	stamps.note("settings")
	early, later := splitModules(config.Modules)
	archive.load(early, journal.warn)
	stamps.noteModules()
	root := startMountingRoot(config.Root, journal)
	resolvers := network.Configure(config.Network, config.Hostname, journal.warn, func(late network.Resolvers) {
		if len(config.Network.Nameservers) == 0 {
			writeNames(config, late, journal)
		}
	})
	stamps.note("network")
	if err := root.enter(); err != nil {
		return err
	}
	stamps.note("root")
	mountUserland(journal)
	children, err := reaper.Start()
	if err != nil {
		return err
	}
	journal.warnError(mountSecrets(config.Secrets))
	mountFurtherDisks(config.Mounts, children, journal)
	journal.warnError(archive.installAgent())
	journal.warnError(clock.SetAtBoot(config.UnixTimeNanoseconds))
	stamps.note("userland")
	writeNames(config, resolvers, journal)
	journal.warnError(network.RuntimeNames().FillEtc(config.VMID))
	stamps.note("names")
	guest := newGuest(version, config, children, stamps, journal)
	guest.start()
	go guest.settle(archive, later, root)
	guest.serveUntilStopped()
	return nil
}

// writeNames writes the files by which the guest knows names.
func writeNames(config *contract.GuestConfig, resolvers network.Resolvers, journal *journal) {
	addresses := network.ToldAddresses(config.Network)
	if addresses == nil && len(config.Network.Interfaces) > 0 {
		addresses = network.Addresses()
	}
	journal.warnError(network.RuntimeNames().Write(config.Hostname, config.Network.Hosts, addresses, resolvers))
}

func readImageConfig(path string, journal *journal) contract.ImageConfig {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return contract.ImageConfig{}
	}
	var image contract.ImageConfig
	if err == nil {
		image, err = contract.ParseImageConfig(data)
	}
	if err != nil {
		journal.warn("cannot use the image's configuration " + path + ": " + err.Error())
	}
	return image
}
