# SPDX-License-Identifier: Apache-2.0
"""IPv6 on the bridge, with real frames: who may say what, who is reached, and what the host's own routes become."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from support.bridged_net import (
    FIRST,
    OUTSIDE6,
    PRELUDE,
    SECOND,
    Net,
    ipv6,
    make_icmpv6,
    make_neighbor,
    start_net,
)
from volant.volantd.network.bridge import BRIDGE_MAC
from volant.volantd.network.bridge_ipv6 import make_link_local

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

GATEWAY = ipv6("192.168.127.1")
ALL_NODES = "ff02::1"
# An option that nobody knows (RFC 4861, 4.6): kernels ask and answer for the same addresses, but not with it.
MARK = b"\xfd\x02volant-mark-14"


@pytest.fixture
def net() -> Iterator[Net]:
    with start_net() as found:
        found.add_guest("b", SECOND)
        yield found


def test_a_guest_answers_for_its_own_addresses_and_is_no_router(net: Net) -> None:
    assert net.reaches("a", ipv6(SECOND)) and net.reaches("a", GATEWAY)
    own, mine, others = net.macs["a"], ipv6(FIRST), ipv6(SECOND)
    link_local = str(make_link_local(own))
    ping = bytes.fromhex("8000000012340001")
    honest = {
        "its answer": (mine, make_neighbor(136, mine, own)),
        "its answer from the link's address": (link_local, make_neighbor(136, link_local, own)),
        "its question": (mine, make_neighbor(135, others, own)),
        "whether its address is free": ("::", make_neighbor(135, mine, own)[:24]),
        "an echo request": (mine, ping),
    }
    for what, (sender, body) in honest.items():
        assert net.arrives("a", "b", make_icmpv6(own, sender, ALL_NODES, body + MARK), MARK), what
    advertisement = b"\x86\0\0\0" + bytes.fromhex("400007080000000000000000")
    redirect = b"\x89\0\0\0" + bytes(4) + bytes.fromhex(f"{'fd' * 32}")
    forged = {
        "another VM's address": (others, ping),
        "the gateway's address": (GATEWAY, ping),
        "another VM's link-local address": (str(make_link_local(net.macs["b"])), ping),
        "no address": ("::", ping),
        "an answer for another VM": (mine, make_neighbor(136, others, own)),
        "an answer for the gateway": (link_local, make_neighbor(136, GATEWAY, own)),
        "that another VM's address is taken": ("::", make_neighbor(135, others, own)[:24]),
        "a router's advertisement": (link_local, advertisement),
        "a redirect": (link_local, redirect),
    }
    for what, (sender, body) in forged.items():
        assert not net.arrives("a", "b", make_icmpv6(own, sender, ALL_NODES, body + MARK), MARK, 0.5), what


def test_guests_reach_out_and_nobody_reaches_in(net: Net) -> None:
    net.add_outside()
    assert net.reaches("a", OUTSIDE6)
    assert not net.reaches("outside", ipv6(FIRST))
    assert net.reaches("host", ipv6(FIRST))
    serve = """
    import socket, select
    listeners = [socket.create_server(("::", port), family=socket.AF_INET6) for port in (53, 8080)]
    print("ready", flush=True)
    while True:
        for listener in select.select(listeners, [], [])[0]:
            listener.accept()[0].close()
    """
    server = net.start("host", serve)
    try:
        for address in (GATEWAY, "2001:db8::1"):
            assert not net.connects("a", address, 8080)
        assert not net.connects("a", f"{make_link_local(BRIDGE_MAC)}%eth0", 8080)
        net.python("host", f"{PRELUDE}install_bridge(is_host_open=True)")
        assert net.connects("a", GATEWAY, 8080)
    finally:
        server.kill()
        server.communicate()


def test_an_isolated_guest_reaches_the_gateway_and_no_other_vm(net: Net) -> None:
    net.add_guest("c", "192.168.127.102", isolated=True)
    alone, link_local = ipv6("192.168.127.102"), str(make_link_local(net.macs["c"]))
    assert net.reaches("c", GATEWAY)
    assert not net.reaches("c", ipv6(FIRST))
    assert not net.reaches("a", alone)
    question = make_neighbor(135, ipv6(FIRST), net.macs["c"])
    for sender in (alone, link_local):
        frame = make_icmpv6(net.macs["c"], sender, ALL_NODES, question + MARK)
        assert not net.arrives("c", "a", frame, MARK, 0.5)


def test_all_of_it_goes_and_routes_of_the_host_stay(net: Net) -> None:
    net.run("host", "ip", "link", "add", "up0", "type", "veth", "peer", "up1")
    net.run("host", "sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.up0.accept_ra=1")
    net.python("host", f"{PRELUDE}install_bridge()")
    asked = ["net.ipv6.conf.all.forwarding", "net.ipv6.conf.up0.accept_ra"]
    assert net.run("host", "sysctl", "-n", *asked).stdout.split() == ["1", "2"]
    listed = json.loads(net.run("host", "ip", "-json", "-6", "address", "show", "volant0").stdout)
    assert GATEWAY in [found["local"] for found in listed[0]["addr_info"]]
    for name in ("a", "b"):
        net.python("host", f"{PRELUDE}remove_tap({net.taps[name]!r})")
    net.python("host", f"{PRELUDE}remove_bridge()")
    assert net.run("host", "nft", "list", "tables").stdout == ""
    assert GATEWAY not in net.run("host", "ip", "-6", "address").stdout
