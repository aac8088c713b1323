// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/volantvm/volant/kestrel/internal/power"
)

// Boot waits this long for a first lease; the client goes on in the background.
const (
	dhcpPatience     = 10 * time.Second
	dhcpRetry        = 15 * time.Second
	shortestRenewal  = 30 * time.Second
	assumedLeaseTime = time.Hour
)

// startDHCP takes a lease and keeps it (RFC 2131: renew at half its time). Only the first lease gives resolvers: they
// are returned, or handed to late where the server answers after the boot's patience.
func startDHCP(through link, hostname string, warn func(string), late func(Resolvers)) (Resolvers, error) {
	first := make(chan *dhcpv4.DHCPv4, 1)
	go func() {
		defer power.Guard()
		keepLease(through, hostname, first, warn)
	}()
	select {
	case answer := <-first:
		return resolversOf(answer), nil
	case <-time.After(dhcpPatience):
		go func() {
			defer power.Guard()
			late(resolversOf(<-first))
		}()
		return Resolvers{}, fmt.Errorf("no DHCP server answered within %v; still asking", dhcpPatience)
	}
}

func keepLease(through link, hostname string, first chan<- *dhcpv4.DHCPv4, warn func(string)) {
	var held netip.Prefix
	var lease *nclient4.Lease
	for {
		renewed, err := requestLease(through, hostname, lease)
		if err != nil {
			lease = nil // ask anew; the address stays until another one replaces it
			time.Sleep(dhcpRetry)
			continue
		}
		lease = renewed
		address, err := applyLease(through, lease.ACK, held)
		if err != nil {
			warn(fmt.Sprintf("cannot use the DHCP lease on %s: %v", through.name, err))
		} else {
			held = address
		}
		select {
		case first <- lease.ACK:
		default:
		}
		time.Sleep(max(lease.ACK.IPAddressLeaseTime(assumedLeaseTime)/2, shortestRenewal))
	}
}

func requestLease(through link, hostname string, lease *nclient4.Lease) (*nclient4.Lease, error) {
	client, err := nclient4.New(through.name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(4))
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if lease != nil {
		return client.Renew(ctx, lease, dhcpv4.WithOption(dhcpv4.OptHostName(hostname)))
	}
	return client.Request(ctx, dhcpv4.WithOption(dhcpv4.OptHostName(hostname)))
}

// applyLease sets the address and routes of a lease and removes the address held before where it differs.
func applyLease(through link, answer *dhcpv4.DHCPv4, held netip.Prefix) (netip.Prefix, error) {
	address, ok := netip.AddrFromSlice(answer.YourIPAddr.To4())
	if !ok {
		return held, fmt.Errorf("its address %v is no IPv4 address", answer.YourIPAddr)
	}
	mask := answer.SubnetMask()
	if mask == nil {
		mask = answer.YourIPAddr.DefaultMask()
	}
	bits, _ := mask.Size()
	prefix := netip.PrefixFrom(address, bits)
	var requests requests
	requests.address(through.index, prefix)
	if held.IsValid() && held != prefix {
		requests.removeAddress(through.index, held)
	}
	if err := requests.send(); err != nil {
		return held, err
	}
	for _, gateway := range answer.Router() {
		return prefix, addDefaultRoute(through, gateway.String())
	}
	return prefix, nil
}

func resolversOf(answer *dhcpv4.DHCPv4) Resolvers {
	var resolvers Resolvers
	for _, server := range answer.DNS() {
		resolvers.Nameservers = append(resolvers.Nameservers, server.String())
	}
	if search := answer.DomainSearch(); search != nil {
		resolvers.Search = search.Labels
	} else if domain := answer.DomainName(); domain != "" {
		resolvers.Search = []string{domain}
	}
	return resolvers
}
