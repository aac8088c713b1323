# SPDX-License-Identifier: Apache-2.0
"""Networks by name on root's bridge, with real packets in both families: who shares none does not reach each other."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.bridged_net import FIRST, OUTSIDE, SECOND, Net, ipv6, start_net

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

THIRD = "192.168.127.102"
# Guests in words of four: tap, MAC, address, networks with a comma between; prints what the first may know by name.
APPLY = """
import asyncio, sys
from volant.volantd.network.bridge import find_net
from volant.volantd.network.bridge_networks import BridgeNetworks
from volant.volantd.network.packet_filter import run_nft
from volant.volantd.network.shared.rules import Guest
words = sys.argv[1:]
guests = [
    Guest(t, m, a, tuple(filter(None, n.split(","))), t[-1], leads_out="inner" not in n)
    for t, m, a, n in zip(words[::4], words[1::4], words[2::4], words[3::4])
]
networks = BridgeNetworks(run_nft, find_net, lambda: guests)
asyncio.run(networks.apply())
if guests:
    print(*sorted(networks.find_names(guests[0].address)), networks.leads_out(guests[0].address))
"""


@pytest.fixture
def net() -> Iterator[Net]:
    with start_net() as found:
        found.add_guest("b", SECOND)
        found.add_guest("c", THIRD)
        found.add_outside()
        yield found


def apply(net: Net, networks: dict[str, str]) -> str:
    addresses = {"a": FIRST, "b": SECOND, "c": THIRD}
    words = [
        word
        for name, of in networks.items()
        for word in (net.taps[name], net.macs[name], addresses[name], of)
    ]
    return str(net.python("host", APPLY, *words)).strip()


def test_guests_reach_those_with_whom_they_share_a_network(net: Net) -> None:
    assert apply(net, {"a": "front", "b": "front,back", "c": "back"}) == "a b True"
    for sender, receiver, reached in (("a", SECOND, True), ("b", THIRD, True), ("a", THIRD, False)):
        assert net.reaches(sender, receiver) is reached
        assert net.reaches(sender, ipv6(receiver)) is reached
    # Nor by way of the gateway.
    net.run("a", "ip", "neighbor", "replace", THIRD, "lladdr", "02:76:6f:6c:61:6e", "dev", "eth0")
    assert not net.reaches("a", THIRD)
    assert net.reaches("a", OUTSIDE) and net.reaches("a", "192.168.127.1")

    assert apply(net, {"a": "inner", "b": "front"}) == "a False"
    assert not net.reaches("a", OUTSIDE) and net.reaches("a", "192.168.127.1") and net.reaches("b", OUTSIDE)
    # Nobody is in any: the bridge is one network again.
    apply(net, {})
    assert net.reaches("c", SECOND) and net.reaches("c", ipv6(SECOND)) and net.reaches("a", OUTSIDE)
