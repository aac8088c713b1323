# SPDX-License-Identifier: Apache-2.0
"""What guests on the bridge may send, with real frames."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bridged_net import (
    FIRST,
    OUTSIDE,
    PRELUDE,
    SECOND,
    Net,
    mac_bytes,
    make_arp,
    make_udp,
    start_net,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def net() -> Iterator[Net]:
    with start_net() as found:
        yield found


def test_a_guest_sends_as_itself_or_not_at_all(net: Net) -> None:
    net.add_guest("b", SECOND)
    assert net.reaches("a", SECOND)
    own, others = net.macs["a"], net.macs["b"]
    mark = b"volant-mark-1"
    honest = {
        "a datagram": make_udp(own, FIRST, SECOND, (5000, 5001), mark),
        "a DHCP client's first": make_udp(own, "0.0.0.0", "255.255.255.255", (68, 67), mark),
    }
    for what, frame in honest.items():
        assert net.arrives("a", "b", frame, mark), what
    arp = make_arp(own, own, FIRST, SECOND)
    assert net.arrives("a", "b", arp, arp[14:42])
    probe = make_arp(own, own, "0.0.0.0", FIRST, operation=1)
    assert net.arrives("a", "b", probe, probe[14:42])

    forged = {
        "another VM's address": make_udp(own, SECOND, "192.168.127.1", (5000, 5001), mark),
        "the gateway's address": make_udp(own, "192.168.127.1", SECOND, (5000, 5001), mark),
        "another VM's MAC": make_udp(others, FIRST, SECOND, (5000, 5001), mark),
        "DHCP answers": make_udp(own, FIRST, "255.255.255.255", (67, 68), mark),
        "no address": make_udp(own, "0.0.0.0", SECOND, (5000, 5001), mark),
        "IPv6": b"\x33\x33\0\0\0\1" + mac_bytes(own) + b"\x86\xdd" + b"\x60" + bytes(39) + mark,
        "a VLAN": honest["a datagram"][:12] + b"\x81\0\0\5" + honest["a datagram"][12:],
    }
    for what, frame in forged.items():
        assert not net.arrives("a", "b", frame, mark, 0.5), what
    for what, frame in {
        "the gateway's ARP": make_arp(own, own, "192.168.127.1", SECOND),
        "ARP for another MAC": make_arp(own, others, FIRST, SECOND),
        "ARP from another MAC": make_arp(others, own, FIRST, SECOND),
    }.items():
        assert not net.arrives("a", "b", frame, frame[14:42], 0.5), what


def test_an_isolated_guest_reaches_the_gateway_and_no_other_vm(net: Net) -> None:
    net.add_guest("b", SECOND, isolated=True)
    assert net.reaches("b", "192.168.127.1")
    assert not net.reaches("b", FIRST)
    assert not net.reaches("a", SECOND)
    # Nor by way of the gateway's MAC, whatever ARP says.
    gateway = json.loads(net.run("host", "ip", "-json", "link", "show", "volant0").stdout)[0]["address"]
    for name, address in (("a", SECOND), ("b", FIRST)):
        net.run(name, "ip", "neighbor", "replace", address, "lladdr", gateway, "dev", "eth0")
        assert not net.reaches(name, address)


def test_the_hosts_services_are_closed_and_its_names_are_open(net: Net) -> None:
    serve = """
    import socket, select, sys
    listeners = [socket.create_server(("0.0.0.0", int(port))) for port in sys.argv[1:]]
    print("ready", flush=True)
    while True:
        for listener in select.select(listeners, [], [])[0]:
            listener.accept()[0].close()
    """
    server = net.start("host", serve, "53", "8080")
    try:
        net.add_outside()
        assert net.connects("a", "192.168.127.1", 53)
        assert net.reaches("a", "192.168.127.1")
        for address in ("192.168.127.1", "198.51.100.1"):
            assert not net.connects("a", address, 8080)
        # Docker publishes a container's port so: what was meant for the host goes on elsewhere.
        beyond = net.start("outside", serve, "8080")
        try:
            assert net.connects("a", OUTSIDE, 8080)
            net.run("host", "nft", "add table ip other")
            net.run("host", "nft", "add chain ip other out { type nat hook prerouting priority dstnat; }")
            net.run("host", "nft", f"add rule ip other out tcp dport 9090 dnat to {OUTSIDE}:8080")
            assert not net.connects("a", "192.168.127.1", 9090)
        finally:
            beyond.kill()
            beyond.communicate()
        net.python("host", f"{PRELUDE}install_bridge(is_host_open=True)")
        assert net.connects("a", "192.168.127.1", 8080)
    finally:
        server.kill()
        server.communicate()


def test_guests_reach_out_and_nobody_reaches_in(net: Net) -> None:
    net.add_outside()
    assert net.reaches("a", OUTSIDE)
    assert not net.reaches("outside", FIRST)
    assert net.reaches("host", FIRST)


def test_the_filter_goes_with_its_device_and_comes_back_when_it_was_flushed(net: Net) -> None:
    net.run("host", "nft", "flush", "ruleset")
    forged = make_udp(net.macs["a"], SECOND, "192.168.127.1", (5000, 5001), b"volant-mark-2")
    net.add_guest("b", SECOND)
    assert net.arrives("a", "b", forged, b"volant-mark-2")
    tap, mac = net.taps["a"], net.macs["a"]
    net.python("host", f"{PRELUDE}guard_tap({tap!r}, {mac!r}, {FIRST!r}); install_bridge()")
    assert not net.arrives("a", "b", forged, b"volant-mark-2", 0.5)
    net.python("host", f"{PRELUDE}remove_tap({tap!r})")
    assert tap not in net.run("host", "nft", "list", "ruleset").stdout
    net.python("host", f"{PRELUDE}remove_bridge()")
    assert net.run("host", "nft", "list", "tables").stdout == ""


# Sends what a DHCP client says first, and prints address and router of the offer.
DISCOVER = """
import select, socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(0x800))
raw.bind(("eth0", 0))
for _ in range(10):
    raw.send(bytes.fromhex(sys.argv[1]))
    while select.select([raw], [], [], 0.5)[0]:
        frame = raw.recv(4096)
        if frame[36:38] == b"\\0\\x44" and frame[42] == 2:
            router = frame[282:].partition(b"\\x03\\x04")[2][:4]
            sys.exit(print(socket.inet_ntoa(frame[58:62]), socket.inet_ntoa(router)))
"""


def make_discover(mac: str) -> bytes:
    body = b"\x01\x01\x06\0" + b"mark" + bytes(2) + b"\x80\0" + bytes(16) + mac_bytes(mac) + bytes(10 + 192)
    body += bytes.fromhex("63825363") + b"\x35\x01\x01" + b"\x37\x02\x03\x06" + b"\xff"
    return make_udp(mac, "0.0.0.0", "255.255.255.255", (68, 67), body.ljust(300, b"\0"))


def test_a_guest_that_asks_by_dhcp_is_told_the_address_that_it_may_use(net: Net, tmp_path: Path) -> None:
    if shutil.which("dnsmasq", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs dnsmasq")
    net.add_guest("b", SECOND)
    leases = f"[Lease({net.macs['a']!r}, {FIRST!r}, 'a')]"
    serve = f"""
    from pathlib import Path
    from volant.volantd.network.dhcp import DhcpServer, Lease
    folder = Path({str(tmp_path)!r})
    DhcpServer(folder).refresh({leases})
    # As after a killed daemon: the next one ends what it left and serves itself.
    server = DhcpServer(folder)
    server.refresh({leases})
    print("ready", flush=True)
    input()
    server.close()
    """
    daemon = net.start("host", serve)
    try:
        assert net.python("a", DISCOVER, make_discover(net.macs["a"]).hex()).split() == [
            FIRST,
            "192.168.127.1",
        ]
        assert net.python("b", DISCOVER, make_discover(net.macs["b"]).hex()) == ""
    finally:
        daemon.communicate("\n", timeout=30)
    assert net.python("a", DISCOVER, make_discover(net.macs["a"]).hex()) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["dhcp.log"]
