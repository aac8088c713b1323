// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/volantvm/volant/kestrel/internal/clock"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/guest"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/snapshot"
	"github.com/volantvm/volant/kestrel/internal/stream"
)

// Drivers that read a device's size and address when they are loaded: a template leaves them to the VM that wakes.
var ownDrivers = []string{"virtio_blk", "virtio_net"}

// wokenGuest is a guest that booted as a template and has been told, in a copy of its memory, which VM it is.
type wokenGuest struct {
	settings  *contract.GuestConfig
	port      *stream.Port
	addresses []string // of the cards, as the template's machine had them
}

// awaitSettings is as far as a template goes: everything is loaded that is the same in every VM, nothing is known of any.
// The host takes the machine's memory while this waits, and each VM that wakes of it goes on from here.
func awaitSettings(template *contract.GuestConfig, archive *bootArchive, journal *guest.Journal) (*wokenGuest, error) {
	archive.load(slices.DeleteFunc(slices.Clone(template.Modules), isOwnDriver), journal.Warn)
	woken := &wokenGuest{port: stream.ListenPort(template.Control.PortName)}
	err := woken.port.AwaitSettings(func(data []byte) error {
		become, err := contract.ParseBecome(data)
		if err != nil {
			return err
		}
		if become.Settings == nil {
			return errors.New("this guest is no VM yet: it cannot go on as one")
		}
		// Before anything that may need random numbers.
		if err := snapshot.Reseed(become.Entropy); err != nil {
			return err
		}
		if now := become.Settings.UnixTimeNanoseconds; now > 0 {
			journal.WarnError(clock.Set(time.Unix(0, now)))
			become.Settings.UnixTimeNanoseconds = 0
		}
		woken.settings, woken.addresses = become.Settings, become.HardwareAddresses
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot wait for the guest's settings: %w", err)
	}
	return woken, nil
}

func isOwnDriver(name string) bool {
	plain := strings.ReplaceAll(filepath.Base(name), "-", "_")
	return slices.ContainsFunc(ownDrivers, func(driver string) bool { return strings.HasPrefix(plain, driver+".") })
}

// takeCards gives the cards their own hardware addresses: the machine brought the template's along.
func (w *wokenGuest) takeCards(journal *guest.Journal) {
	if len(w.addresses) > 0 {
		journal.WarnError(network.TakeCards(w.addresses, w.settings.Network))
	}
}
