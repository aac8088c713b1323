// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/volantvm/volant/kestrel/internal/clock"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/hooks"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/snapshot"
)

// Freeze holds everything but the agent still while the host takes a snapshot.
func (g *Guest) Freeze() error {
	err := g.freezer.Freeze()
	g.held.Store(err == nil)
	return err
}

// Thaw lets the guest go on after one.
func (g *Guest) Thaw() error {
	g.held.Store(false)
	return g.freezer.Thaw()
}

// takeSettings is Become, asked for before there is a key that host and copy share.
func (g *Guest) takeSettings(data []byte) error {
	if !g.held.Load() {
		return errors.New("this guest is not held for a snapshot")
	}
	become, err := contract.ParseBecome(data)
	if err != nil {
		return err
	}
	return g.Become(g.life, become.Settings, become.Entropy)
}

// Wake lets the guest go on that slept in its host's files. It is who it was; the time has gone on, and random numbers
// that were drawn after its memory had been taken must not be drawn again.
func (g *Guest) Wake(now time.Time, entropy []byte) error {
	if err := snapshot.Reseed(entropy); err != nil {
		return err
	}
	g.journal.WarnError(clock.Set(now))
	network.Announce(g.current.Load().Network)
	return g.freezer.Thaw()
}

// Become makes this copy of a guest the VM of the given settings; the copy is frozen until it has become it. Random
// numbers come first, since whatever follows may need some. What cannot be done is a warning, save for the random numbers and
// the keys: without these two a copy must not go on.
func (g *Guest) Become(ctx context.Context, settings *contract.GuestConfig, entropy []byte) error {
	if err := snapshot.Reseed(entropy); err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey([]byte(settings.Control.HostKey))
	if err != nil {
		return fmt.Errorf("cannot become %s: the host key of its settings is of no use: %w", settings.VMName, err)
	}
	if err := g.admitHost(settings.Control.AuthorizedKeys); err != nil {
		return err
	}
	g.hostKey.Set(signer)
	g.keys.Clear()
	g.admitPeople(settings.SSH.AuthorizedKeys)
	if settings.UnixTimeNanoseconds > 0 {
		g.journal.WarnError(clock.Set(time.Unix(0, settings.UnixTimeNanoseconds)))
	}
	if err := g.freezer.ThawDisks(); err != nil {
		return err
	}
	g.journal.WarnError(errors.Join(snapshot.RenewMachineID("/"), snapshot.RenewBootID(contract.RuntimeFolder)))
	g.moveTo(settings)
	g.journal.WarnError(g.supervisor.Apply(contract.SettingsApply{WorkloadEnv: settings.Workload.Env}))
	if code, err := g.supervisor.RunHook(ctx, hooks.PostRestore); err != nil || code != 0 {
		g.journal.Warn(fmt.Sprintf("a post_restore hook failed (exit code %d): its log says why", code))
	}
	g.journal.Say("this is %s now, a copy of %s", settings.VMName, g.current.Load().VMName)
	g.current.Store(settings)
	g.changes.tell()
	g.held.Store(false)
	return g.freezer.ThawProcesses()
}

// moveTo takes the name and the network of the settings.
func (g *Guest) moveTo(settings *contract.GuestConfig) {
	late := func(resolvers network.Resolvers) {
		if len(settings.Network.Nameservers) == 0 {
			WriteNames(settings, resolvers, g.journal)
		}
	}
	resolvers, err := network.Move(g.current.Load().Network, settings.Network, settings.Hostname, g.journal.Warn, late)
	g.journal.WarnError(err)
	WriteNames(settings, resolvers, g.journal)
	network.Announce(settings.Network)
}
