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

// spokenLater is when a guest that goes on tells the network that it is there: its workload comes first.
const spokenLater = 100 * time.Millisecond

// hold is what a guest that is held has at hand for a copy of it to become another VM.
type hold struct {
	identity *snapshot.Identity
	cards    network.Cards
}

// Freeze holds everything but the agent still while the host takes a snapshot. Disks: for one of the disk, too, that is
// to be whole by itself.
func (g *Guest) Freeze(disks bool) error {
	g.holding.Lock()
	defer g.holding.Unlock()
	if err := g.freezer.Freeze(disks); err != nil {
		return err
	}
	g.held.Store(&hold{
		identity: snapshot.OpenIdentity("/", contract.RuntimeFolder),
		cards:    network.FindCards(g.current.Load().Network),
	})
	return nil
}

// Thaw lets the guest go on after one.
func (g *Guest) Thaw() error {
	g.holding.Lock()
	defer g.holding.Unlock()
	return g.letGo()
}

func (g *Guest) letGo() error {
	g.release()
	return g.freezer.Thaw()
}

func (g *Guest) release() {
	if held := g.held.Swap(nil); held != nil {
		held.identity.Close()
	}
}

// takeSettings is Become or Wake, asked for before there is a key that host and copy share.
func (g *Guest) takeSettings(data []byte) error {
	if g.held.Load() == nil {
		return errors.New("this guest is not held for a snapshot")
	}
	become, err := contract.ParseBecome(data)
	if err != nil {
		return err
	}
	if become.Settings == nil {
		return g.Wake(time.Unix(0, become.UnixTimeNanoseconds), become.Entropy)
	}
	return g.Become(g.life, become.Settings, become.Entropy)
}

// Wake lets the guest go on that slept in its host's files. It is who it was; the time has gone on, and random numbers
// that were drawn after its memory had been taken must not be drawn again.
func (g *Guest) Wake(now time.Time, entropy []byte) error {
	g.holding.Lock()
	defer g.holding.Unlock()
	if err := g.reseed(entropy); err != nil {
		return err
	}
	g.journal.WarnError(clock.Set(now))
	g.speakLater()
	return g.letGo()
}

func (g *Guest) reseed(entropy []byte) error {
	if held := g.held.Load(); held != nil {
		return held.identity.Reseed(entropy)
	}
	return snapshot.Reseed(entropy)
}

// speakLater has the network learn where this guest is.
func (g *Guest) speakLater() {
	time.AfterFunc(spokenLater, func() { network.Announce(g.current.Load().Network) })
}

// Become makes this copy of a guest the VM of the given settings; the copy is frozen until it has become it. Random
// numbers come first, since whatever follows may need some. What cannot be done is a warning, save for the random numbers and
// the keys: without these two a copy must not go on.
func (g *Guest) Become(ctx context.Context, settings *contract.GuestConfig, entropy []byte) error {
	g.holding.Lock()
	defer g.holding.Unlock()
	held := g.held.Load()
	if held == nil {
		return errors.New("cannot become another VM: this guest is not held for a snapshot")
	}
	if err := held.identity.Reseed(entropy); err != nil {
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
	g.journal.WarnError(held.identity.Renew())
	g.moveTo(settings, held.cards)
	g.journal.WarnError(g.supervisor.Apply(contract.SettingsApply{WorkloadEnv: settings.Workload.Env}))
	if code, err := g.supervisor.RunHook(ctx, hooks.PostRestore); err != nil || code != 0 {
		g.journal.Warn(fmt.Sprintf("a post_restore hook failed (exit code %d): its log says why", code))
	}
	original := g.current.Swap(settings)
	g.release()
	if err := g.freezer.ThawProcesses(); err != nil {
		return err
	}
	g.speakLater()
	g.openNetwork()
	g.changes.tell()
	g.journal.Say("this is %s now, a copy of %s", settings.VMName, original.VMName)
	return nil
}

// moveTo takes the name and the network of the settings.
func (g *Guest) moveTo(settings *contract.GuestConfig, cards network.Cards) {
	late := func(resolvers network.Resolvers) {
		if len(settings.Network.Nameservers) == 0 {
			WriteNames(settings, resolvers, g.journal)
		}
	}
	resolvers, err := network.Move(
		g.current.Load().Network, settings.Network, cards, settings.Hostname, g.journal.Warn, late)
	g.journal.WarnError(err)
	WriteNames(settings, resolvers, g.journal)
}
