// SPDX-License-Identifier: Apache-2.0

package network

import (
	"strings"
	"testing"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

func splitLines(text string) (lines [][]string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

func TestAnInterfaceIsFoundByItsAddress(t *testing.T) {
	folder := t.TempDir()
	write(t, folder+"/lo/address", "00:00:00:00:00:00\n")
	write(t, folder+"/lo/ifindex", "1\n")
	write(t, folder+"/eth3/address", "52:54:00:12:34:ab\n")
	write(t, folder+"/eth3/ifindex", "4\n")
	found, err := waitForLink(folder, "52:54:00:12:34:AB", 0)
	if err != nil || found != (link{"eth3", 4}) {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := waitForLink(folder, "52:54:00:12:34:56", 0); err == nil || !strings.Contains(err.Error(), "only eth3, lo") {
		t.Errorf("error is %v", err)
	}
}

func TestAnInterfaceThatComesLateIsWaitedFor(t *testing.T) {
	folder := t.TempDir()
	go func() {
		time.Sleep(10 * time.Millisecond)
		write(t, folder+"/eth0/ifindex", "2\n")
		write(t, folder+"/eth0/address", "52:54:00:12:34:56\n")
	}()
	if found, err := waitForLink(folder, "52:54:00:12:34:56", time.Minute); err != nil || found.index != 2 {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestConfigurationsOfOtherCardsAreTheSameToTheKernel(t *testing.T) {
	gateway, other := "10.0.2.2", "10.0.2.3"
	make := func(mac, address string, gateway *string) contract.GuestNetwork {
		card := contract.Interface{MAC: mac, Mode: "static", Addresses: []string{address}, Gateway: gateway}
		return contract.GuestNetwork{Interfaces: []contract.Interface{card}, Nameservers: []string{"10.0.2.3"}}
	}
	from := make("52:54:00:00:00:01", "10.0.2.15/24", &gateway)
	same := "10.0.2.2"
	if !differInCardsAlone(from, make("52:54:00:00:00:02", "10.0.2.15/24", &same)) {
		t.Error("another hardware address is another configuration")
	}
	leased := make("52:54:00:00:00:02", "10.0.2.15/24", &gateway)
	leased.Interfaces[0].Mode = "dhcp"
	for what, to := range map[string]contract.GuestNetwork{
		"address": make("52:54:00:00:00:02", "10.0.2.16/24", &gateway),
		"gateway": make("52:54:00:00:00:02", "10.0.2.15/24", &other),
		"route":   make("52:54:00:00:00:02", "10.0.2.15/24", nil),
		"lease":   leased,
	} {
		if differInCardsAlone(from, to) {
			t.Errorf("another %s makes no difference", what)
		}
	}
}
