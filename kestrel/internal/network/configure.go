// SPDX-License-Identifier: Apache-2.0

// Package network gives the guest the network it was told to have: addresses and routes by netlink, DHCP where asked,
// and the names in /etc.
package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// interfacePatience is how long a network card may take to show up after its driver was loaded.
const interfacePatience = 3 * time.Second

// Resolvers are the name servers and search domains to write into resolv.conf.
type Resolvers struct {
	Nameservers []string
	Search      []string
}

// Configure brings up loopback and every interface. What fails is told to warn and does not stop the rest: a guest
// without its network is still one that a person can look into. Given resolvers win over those that DHCP hands out.
func Configure(config contract.GuestNetwork, hostname string, warn func(string)) Resolvers {
	resolvers := Resolvers{Nameservers: config.Nameservers, Search: config.Search}
	if err := bringUpLoopback(); err != nil {
		warn(err.Error())
	}
	for _, wanted := range config.Interfaces {
		leased, err := configureInterface(wanted, hostname, warn)
		if err != nil {
			warn(fmt.Sprintf("cannot configure the network interface %s: %v", wanted.MAC, err))
			continue
		}
		if len(resolvers.Nameservers) == 0 {
			resolvers.Nameservers = leased.Nameservers
		}
		if len(resolvers.Search) == 0 {
			resolvers.Search = leased.Search
		}
	}
	return resolvers
}

func bringUpLoopback() error {
	loopback, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(loopback)
	}
	if err != nil {
		return fmt.Errorf("cannot bring up loopback: %w", err)
	}
	return nil
}

func configureInterface(wanted contract.Interface, hostname string, warn func(string)) (Resolvers, error) {
	link, err := waitForLink(wanted.MAC)
	if err != nil {
		return Resolvers{}, err
	}
	if wanted.MTU != nil {
		if err := netlink.LinkSetMTU(link, *wanted.MTU); err != nil {
			warn(fmt.Sprintf("cannot set the MTU of %s to %d: %v", link.Attrs().Name, *wanted.MTU, err))
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return Resolvers{}, fmt.Errorf("cannot bring it up: %w", err)
	}
	if err := addAddresses(link, wanted.Addresses); err != nil {
		return Resolvers{}, err
	}
	if wanted.Mode == "dhcp" {
		return startDHCP(link, hostname, warn)
	}
	for _, gateway := range []*string{wanted.Gateway, wanted.Gateway6} {
		if gateway == nil || *gateway == "" {
			continue
		}
		if err := addDefaultRoute(link, *gateway); err != nil {
			return Resolvers{}, err
		}
		announce(*gateway)
	}
	return Resolvers{}, nil
}

func waitForLink(mac string) (netlink.Link, error) {
	address, err := net.ParseMAC(mac)
	if err != nil {
		return nil, fmt.Errorf("not a MAC address: %w", err)
	}
	for deadline := time.Now().Add(interfacePatience); ; time.Sleep(5 * time.Millisecond) {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("cannot list interfaces: %w", err)
		}
		var seen []string
		for _, link := range links {
			if bytes.Equal(link.Attrs().HardwareAddr, address) {
				return link, nil
			}
			seen = append(seen, link.Attrs().Name)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("there is none (only %s)", strings.Join(seen, ", "))
		}
	}
}

func addAddresses(link netlink.Link, addresses []string) error {
	for _, text := range addresses {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("%q is not an address in CIDR form: %w", text, err)
		}
		if address.IP.To4() == nil {
			address.Flags = unix.IFA_F_NODAD // the host gives each address out once; a probe would delay the first bind
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return fmt.Errorf("cannot add the address %s: %w", text, err)
		}
	}
	return nil
}

func addDefaultRoute(link netlink.Link, gateway string) error {
	address := net.ParseIP(gateway)
	if address == nil {
		return fmt.Errorf("the gateway %q is not an address", gateway)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: address}
	err := netlink.RouteReplace(route)
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		route.Flags = int(netlink.FLAG_ONLINK) // a gateway outside the interface's own prefix
		err = netlink.RouteReplace(route)
	}
	if err != nil {
		return fmt.Errorf("cannot set the route by %s: %w", gateway, err)
	}
	return nil
}

// announce sends one packet to the gateway (UDP port 9, discard): bridges and user-mode networks learn the guest's
// address by it, and some deliver nothing to a guest that has never spoken.
func announce(gateway string) {
	connection, err := net.Dial("udp", net.JoinHostPort(gateway, "9"))
	if err != nil {
		return
	}
	_, _ = connection.Write([]byte{0})
	_ = connection.Close()
}

// Addresses lists the guest's addresses in CIDR form, without loopback and link-local ones.
func Addresses() []string {
	var found []string
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, address := range addresses {
		prefix, ok := address.(*net.IPNet)
		if ok && !prefix.IP.IsLoopback() && !prefix.IP.IsLinkLocalUnicast() {
			found = append(found, prefix.String())
		}
	}
	return found
}

// AllowUnprivilegedPorts lets every user bind every port and send pings, as in a container: an image with USER and
// EXPOSE 80 was tested that way.
func AllowUnprivilegedPorts() {
	for name, value := range map[string]string{"ip_unprivileged_port_start": "0", "ping_group_range": "0 2147483647"} {
		_ = os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0)
	}
}
