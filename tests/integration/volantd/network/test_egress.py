# SPDX-License-Identifier: Apache-2.0
"""What guests on root's bridge reach by their lists, with real connections. The rest: shared network's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.bridged_net import FIRST, OUTSIDE, OUTSIDE6, SECOND, Net, start_net

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SERVE = """
import socket, threading
def serve(listener):
    while True:
        listener.accept()[0].sendall(b"hello")
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    listener = socket.socket(family)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, 8080))
    listener.listen()
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
print("ready", flush=True)
input()
"""
# Guests by name, address and list, in words of three; prints what was counted of the first.
HOLD = """
import asyncio, sys
from volant.contract.egress import parse_egress
from volant.volantd.network.bridge import find_net
from volant.volantd.network.egress.guard import EgressGuard
from volant.volantd.network.egress.rules import HeldGuest
from volant.volantd.network.packet_filter import run_nft
words = sys.argv[1:]
guests = [HeldGuest(n, a, parse_egress(e)) for n, a, e in zip(words[::3], words[1::3], words[2::3])]
guard = EgressGuard(run_nft, find_net, lambda: guests)
async def main():
    await guard.apply()
    await guard.count()
    if guests:
        found = guard.find_counts(guests[0].name)
        print(found.allowed, found.refused_packets, *sorted(found.recent))
asyncio.run(main())
"""


@pytest.fixture
def net() -> Iterator[Net]:
    with start_net() as found:
        found.add_guest("b", SECOND)
        found.add_outside()
        yield found


def test_a_bridged_guest_is_held_to_its_list_in_both_families(net: Net) -> None:
    servers = [net.start(name, SERVE) for name in ("outside", "host", "b")]
    try:
        net.python("host", HOLD, "a", FIRST, "none")
        assert not net.connects("a", OUTSIDE, 8080) and not net.connects("a", OUTSIDE6, 8080)
        # The host's own address is no way around, other VMs are the networks' business, and others are not held.
        assert not net.connects("a", "198.51.100.1", 8080) and net.connects("a", SECOND, 8080)
        assert net.reaches("a", "192.168.127.1") and net.connects("b", OUTSIDE, 8080)
        assert net.python("host", HOLD, "a", FIRST, "none").split() == [
            "0", "3", "tcp", "198.51.100.1:8080", "tcp", f"{OUTSIDE}:8080", "tcp", f"[{OUTSIDE6}]:8080",
        ]  # fmt: skip
        net.python("host", HOLD, "a", FIRST, f"{OUTSIDE6},192.0.2.0/24")
        assert net.connects("a", OUTSIDE6, 8080) and not net.connects("a", OUTSIDE, 8080)
        assert net.python("host", HOLD, "a", FIRST, f"{OUTSIDE6},192.0.2.0/24").split()[:2] == ["1", "1"]
        # Nobody is held any more: nothing of it is left.
        net.python("host", HOLD)
        assert net.connects("a", OUTSIDE, 8080)
        assert "guest_" not in net.run("host", "nft", "list", "ruleset").stdout.partition("volant_egress")[2]
    finally:
        for server in servers:
            server.communicate("\n", timeout=60)
