// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Cards are the interfaces of a configuration, in its order. Those that were not found are looked for when they are
// needed.
type Cards []link

// FindCards finds them without waiting, and has the kernel tell the network of another hardware address as soon as one
// has it (arp_notify): what is sent to a copy would go to the original's until the copy speaks.
func FindCards(config contract.GuestNetwork) Cards {
	cards := make(Cards, len(config.Interfaces))
	for index, wanted := range config.Interfaces {
		found, err := waitForLink(linksFolder, wanted.MAC, 0)
		if err == nil {
			_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv4/conf", found.name, "arp_notify"), []byte("1"), 0)
		}
		cards[index] = found
	}
	return cards
}

// Move takes the guest from one network configuration to another with the same cards: hardware addresses, addresses and
// routes. A copy of a guest wakes with the original's, and two of one address are two that do not work.
func Move(
	from, to contract.GuestNetwork, cards Cards, hostname string, warn func(string), late func(Resolvers),
) (Resolvers, error) {
	if len(from.Interfaces) != len(to.Interfaces) {
		return Resolvers{}, fmt.Errorf(
			"cannot move to another network: it has %d cards, this guest %d", len(to.Interfaces), len(from.Interfaces))
	}
	var problems []error
	for index, old := range from.Interfaces {
		var card link
		if index < len(cards) {
			card = cards[index]
		}
		if err := leave(old, to.Interfaces[index], card); err != nil {
			problems = append(problems, fmt.Errorf("cannot move the network interface %s: %w", old.MAC, err))
		}
	}
	if len(problems) == 0 && differInCardsAlone(from, to) {
		return Resolvers{Nameservers: to.Nameservers, Search: to.Search}, nil
	}
	return Configure(to, hostname, warn, late), errors.Join(problems...)
}

// differInCardsAlone: what the kernel was told of the one is right for the other.
func differInCardsAlone(from, to contract.GuestNetwork) bool {
	return slices.Equal(from.Nameservers, to.Nameservers) && slices.Equal(from.Search, to.Search) &&
		maps.EqualFunc(from.Hosts, to.Hosts, slices.Equal) &&
		slices.EqualFunc(from.Interfaces, to.Interfaces, func(one, other contract.Interface) bool {
			return one.Mode == "static" && other.Mode == "static" && slices.Equal(one.Addresses, other.Addresses) &&
				equalValues(one.Gateway, other.Gateway) && equalValues(one.Gateway6, other.Gateway6) &&
				equalValues(one.MTU, other.MTU)
		})
}

func equalValues[T comparable](one, other *T) bool {
	return one == other || one != nil && other != nil && *one == *other
}

// TakeCards gives cards that have these hardware addresses, in the order of the settings, those of the settings.
func TakeCards(addresses []string, to contract.GuestNetwork) error {
	if len(addresses) != len(to.Interfaces) {
		return fmt.Errorf("cannot take the network: it has %d cards, this guest %d", len(to.Interfaces), len(addresses))
	}
	var problems []error
	for index, address := range addresses {
		if err := leave(contract.Interface{MAC: address}, to.Interfaces[index], link{}); err != nil {
			problems = append(problems, fmt.Errorf("cannot take the network interface %s: %w", address, err))
		}
	}
	return errors.Join(problems...)
}

// leave takes the old addresses off a card and gives it the new hardware address. A card without an index is looked for.
func leave(old, wanted contract.Interface, card link) (err error) {
	if card.index == 0 {
		if card, err = waitForLink(linksFolder, old.MAC, interfacePatience); err != nil {
			return err
		}
	}
	hardware, err := net.ParseMAC(wanted.MAC)
	if err != nil {
		return fmt.Errorf("%q is no hardware address", wanted.MAC)
	}
	var requests requests
	for _, text := range old.Addresses {
		if prefix, err := netip.ParsePrefix(text); err == nil && !slices.Contains(wanted.Addresses, text) {
			requests.removeAddress(card.index, prefix)
		}
	}
	if old.MAC != wanted.MAC {
		requests.hardwareAddress(card.index, hardware)
	}
	return requests.send()
}
