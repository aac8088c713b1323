// SPDX-License-Identifier: Apache-2.0

// Package network gives the guest the network it was told to have: addresses and routes by rtnetlink, DHCP where
// asked, and the names in /etc.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// interfacePatience is how long a network card may take to show up after its driver was loaded.
const interfacePatience = 3 * time.Second

const (
	loopbackIndex = 1 // of every network namespace
	linksFolder   = "/sys/class/net"
)

// Resolvers are the name servers and search domains to write into resolv.conf.
type Resolvers struct {
	Nameservers []string
	Search      []string
}

// link is a network interface of the kernel.
type link struct {
	name  string
	index int
}

// Configure brings up loopback and every interface. What fails is told to warn and does not stop the rest: a guest
// without its network is still one that a person can look into. Given resolvers win over those that DHCP hands out.
// Resolvers of a lease that takes longer than the boot waits come by late.
func Configure(config contract.GuestNetwork, hostname string, warn func(string), late func(Resolvers)) Resolvers {
	resolvers := Resolvers{Nameservers: config.Nameservers, Search: config.Search}
	allowUnprivilegedPorts()
	var requests requests
	requests.linkUp(loopbackIndex, 0)
	if err := requests.send(); err != nil {
		warn("loopback: " + err.Error())
	}
	for _, wanted := range config.Interfaces {
		leased, err := configureInterface(wanted, hostname, warn, late)
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

func configureInterface(
	wanted contract.Interface, hostname string, warn func(string), late func(Resolvers),
) (Resolvers, error) {
	found, err := waitForLink(linksFolder, wanted.MAC, interfacePatience)
	if err != nil {
		return Resolvers{}, err
	}
	var requests requests
	mtu := 0
	if wanted.MTU != nil {
		mtu = *wanted.MTU
	}
	requests.linkUp(found.index, mtu)
	for _, text := range wanted.Addresses {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return Resolvers{}, fmt.Errorf("%q is not an address in CIDR form", text)
		}
		requests.address(found.index, prefix)
	}
	if err := requests.send(); err != nil {
		return Resolvers{}, err
	}
	if wanted.Mode == "dhcp" {
		return startDHCP(found, hostname, warn, late)
	}
	for _, gateway := range []*string{wanted.Gateway, wanted.Gateway6} {
		if gateway != nil && *gateway != "" {
			if err := addDefaultRoute(found, *gateway); err != nil {
				return Resolvers{}, err
			}
		}
	}
	return Resolvers{}, nil
}

// waitForLink finds the interface with a MAC address, below sysfs, and waits for it a while.
func waitForLink(folder, mac string, patience time.Duration) (link, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return link{}, err
		}
		var names []string
		for _, entry := range entries {
			name := entry.Name()
			names = append(names, name)
			address, err := os.ReadFile(filepath.Join(folder, name, "address"))
			if err != nil || name == "lo" || !strings.EqualFold(strings.TrimSpace(string(address)), mac) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(folder, name, "ifindex"))
			if err != nil {
				return link{}, err
			}
			index, err := strconv.Atoi(strings.TrimSpace(string(text)))
			return link{name, index}, err
		}
		if time.Now().After(deadline) {
			return link{}, fmt.Errorf("there is none (only %s)", strings.Join(names, ", "))
		}
	}
}

func addDefaultRoute(through link, gateway string) error {
	address, err := netip.ParseAddr(gateway)
	if err != nil {
		return fmt.Errorf("the gateway %q is not an address", gateway)
	}
	for _, onLink := range []bool{false, true} {
		var requests requests
		requests.defaultRoute(through.index, address, onLink)
		if err = requests.send(); !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			break
		}
	}
	return err
}

// Announce sends one packet to each gateway (UDP port 9, discard): bridges and user-mode networks learn the guest's
// address by it, and some deliver nothing to a guest that has never spoken.
func Announce(config contract.GuestNetwork) {
	for _, wanted := range config.Interfaces {
		for _, gateway := range []*string{wanted.Gateway, wanted.Gateway6} {
			if gateway == nil || *gateway == "" {
				continue
			}
			if address, err := netip.ParseAddr(*gateway); err == nil {
				sendByte(address, 9)
			}
		}
	}
}

// sendByte sends a datagram by bare system calls: package net's way runs much more code for the first time.
func sendByte(address netip.Addr, port int) {
	family, target := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: address.As16()})
	if address.Is4() {
		family, target = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: address.As4()}
	}
	descriptor, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	_ = unix.Sendto(descriptor, []byte{0}, 0, target)
	_ = unix.Close(descriptor)
}

// ToldAddresses are the addresses that the guest was told to take, in CIDR form; those of DHCP are not among them.
func ToldAddresses(config contract.GuestNetwork) []string {
	var addresses []string
	for _, wanted := range config.Interfaces {
		addresses = append(addresses, wanted.Addresses...)
	}
	return addresses
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

// allowUnprivilegedPorts lets every user bind every port, as in a container: an image with USER and EXPOSE 80 was
// tested that way.
func allowUnprivilegedPorts() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}

// AllowPings lets every user send pings, as in a container.
func AllowPings() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
}
