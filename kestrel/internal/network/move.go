// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Move takes the guest from one network configuration to another with the same cards: hardware addresses, addresses and
// routes. A copy of a guest wakes with the original's, and two of one address are two that do not work.
func Move(
	from, to contract.GuestNetwork, hostname string, warn func(string), late func(Resolvers),
) (Resolvers, error) {
	if len(from.Interfaces) != len(to.Interfaces) {
		return Resolvers{}, fmt.Errorf(
			"cannot move to another network: it has %d cards, this guest %d", len(to.Interfaces), len(from.Interfaces))
	}
	var problems []error
	for index, old := range from.Interfaces {
		if err := leave(old, to.Interfaces[index]); err != nil {
			problems = append(problems, fmt.Errorf("cannot move the network interface %s: %w", old.MAC, err))
		}
	}
	return Configure(to, hostname, warn, late), errors.Join(problems...)
}

// TakeCards gives cards that have these hardware addresses, in the order of the settings, those of the settings.
func TakeCards(addresses []string, to contract.GuestNetwork) error {
	if len(addresses) != len(to.Interfaces) {
		return fmt.Errorf("cannot take the network: it has %d cards, this guest %d", len(to.Interfaces), len(addresses))
	}
	var problems []error
	for index, address := range addresses {
		if err := leave(contract.Interface{MAC: address}, to.Interfaces[index]); err != nil {
			problems = append(problems, fmt.Errorf("cannot take the network interface %s: %w", address, err))
		}
	}
	return errors.Join(problems...)
}

// leave takes the old addresses off a card and gives it the new hardware address.
func leave(old, wanted contract.Interface) error {
	found, err := waitForLink(linksFolder, old.MAC, interfacePatience)
	if err != nil {
		return err
	}
	hardware, err := net.ParseMAC(wanted.MAC)
	if err != nil {
		return fmt.Errorf("%q is no hardware address", wanted.MAC)
	}
	var requests requests
	for _, text := range old.Addresses {
		if prefix, err := netip.ParsePrefix(text); err == nil && !slices.Contains(wanted.Addresses, text) {
			requests.removeAddress(found.index, prefix)
		}
	}
	if old.MAC != wanted.MAC {
		requests.hardwareAddress(found.index, hardware)
	}
	return requests.send()
}
