// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// inOwnNamespace gives the test a network of its own, on a thread that is thrown away afterwards.
func inOwnNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		t.Skipf("needs a network namespace: %v", err)
	}
}

func TestTheKernelTakesAddressesAndRoutes(t *testing.T) {
	inOwnNamespace(t)
	var requests requests
	requests.linkUp(loopbackIndex, 1400)
	requests.address(loopbackIndex, netip.MustParsePrefix("192.0.2.15/24"))
	requests.address(loopbackIndex, netip.MustParsePrefix("2001:db8::15/64"))
	requests.defaultRoute(loopbackIndex, netip.MustParseAddr("192.0.2.1"), false)
	requests.address(loopbackIndex, netip.MustParsePrefix("192.0.2.16/24"))
	requests.removeAddress(loopbackIndex, netip.MustParsePrefix("192.0.2.16/24"))
	if err := requests.send(); err != nil {
		t.Fatal(err)
	}
	if got, want := Addresses(), []string{"192.0.2.15/24", "2001:db8::15/64"}; !slices.Equal(got, want) {
		t.Errorf("addresses are %v, want %v", got, want)
	}
	routes, err := os.ReadFile("/proc/thread-self/net/route")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(routeGateways(string(routes)), "010200C0") {
		t.Errorf("no default route by 192.0.2.1 in\n%s", routes)
	}
}

func routeGateways(table string) (gateways []string) {
	for _, line := range splitLines(table) {
		if len(line) > 2 && line[1] == "00000000" {
			gateways = append(gateways, line[2])
		}
	}
	return gateways
}

func TestAFailureIsNamedAndTheRestGoesOn(t *testing.T) {
	inOwnNamespace(t)
	var requests requests
	requests.linkUp(loopbackIndex, 0)
	requests.defaultRoute(loopbackIndex, netip.MustParseAddr("198.51.100.1"), false)
	requests.address(loopbackIndex, netip.MustParsePrefix("192.0.2.15/24"))
	err := requests.send()
	if !errors.Is(err, unix.ENETUNREACH) || err.Error()[:37] != "cannot set the route by 198.51.100.1:" {
		t.Errorf("error is %v", err)
	}
	if got := Addresses(); !slices.Equal(got, []string{"192.0.2.15/24"}) {
		t.Errorf("addresses are %v", got)
	}
}

func TestAGatewayOutsideThePrefixIsReached(t *testing.T) {
	inOwnNamespace(t)
	var requests requests
	requests.linkUp(loopbackIndex, 0)
	requests.address(loopbackIndex, netip.MustParsePrefix("192.0.2.15/32"))
	if err := requests.send(); err != nil {
		t.Fatal(err)
	}
	if err := addDefaultRoute(link{"lo", loopbackIndex}, "192.0.2.1"); err != nil {
		t.Error(err)
	}
}

func TestMessagesAreLaidOutAsTheKernelWants(t *testing.T) {
	var requests requests
	requests.linkUp(7, 0)
	requests.address(7, netip.MustParsePrefix("10.0.2.15/24"))
	first := binary.NativeEndian.Uint32(requests.bytes)
	if first != 32 || len(requests.bytes) != 32+16+8+3*8 {
		t.Errorf("lengths are %d and %d", first, len(requests.bytes))
	}
	if last := requests.bytes[len(requests.bytes)-4:]; !slices.Equal(last, []byte{10, 0, 2, 255}) {
		t.Errorf("the broadcast address is %v", last)
	}
}

func TestUnreadableAnswersEndTheReading(t *testing.T) {
	requests := requests{what: []string{"a"}}
	for _, answer := range [][]byte{{}, {1, 2, 3}, make([]byte, 16), {255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if count, err := requests.readAnswers(answer); count != 0 || err != nil {
			t.Errorf("%v gives %d, %v", answer, count, err)
		}
	}
}

func TestToldAddressesAreTheStaticOnes(t *testing.T) {
	config := contract.GuestNetwork{Interfaces: []contract.Interface{{Addresses: []string{"10.0.2.15/24"}}, {Mode: "dhcp"}}}
	if got := ToldAddresses(config); !slices.Equal(got, []string{"10.0.2.15/24"}) {
		t.Errorf("got %v", got)
	}
}
