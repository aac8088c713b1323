# SPDX-License-Identifier: Apache-2.0
"""What guests on the bridge may send, with real frames: guests are namespaces whose veth stands in the tap's place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FIRST, SECOND, OUTSIDE = "192.168.127.100", "192.168.127.101", "198.51.100.2"
PRELUDE = "from volant.volantd.network.bridge import *\n"
# Sends the frame that it is given and prints how many of its kind arrive at the other side within half a second.
SEND = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
raw.send(bytes.fromhex(sys.argv[1]))
"""
# Echo requests until one is answered, for two seconds.
PING = """
import select, socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
for _ in range(4):
    raw.sendto(bytes.fromhex("0800e9f10e0e0000"), (sys.argv[1], 0))
    while select.select([raw], [], [], 0.5)[0]:
        if raw.recv(1500)[20] == 0:
            sys.exit(print("answered"))
"""
LISTEN = """
import select, socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
raw.bind(("eth0", 0))
print("ready", flush=True)
mark, seconds, count = bytes.fromhex(sys.argv[1]), float(sys.argv[2]), 0
while select.select([raw], [], [], seconds)[0]:
    count += mark in raw.recv(4096)
    if count:
        break
print(count)
"""


class Net:
    """A host with the bridge, guests on it and a machine outside, each a namespace of this test's own."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex[:6]
        self.names: list[str] = []
        self.taps: dict[str, str] = {}
        self.macs: dict[str, str] = {}
        self.add("host")

    def add(self, name: str) -> None:
        subprocess.run(["ip", "netns", "add", self.full(name)], check=True)
        self.names.append(name)
        self.run(name, "ip", "link", "set", "lo", "up")

    def full(self, name: str) -> str:
        return f"vt{self.mark}-{name}"

    def run(self, name: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["ip", "netns", "exec", self.full(name), *command], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def python(self, name: str, code: str, *arguments: str) -> Any:
        done = self.run(name, sys.executable, "-c", textwrap.dedent(code), *arguments)
        return done.stdout

    def add_guest(self, name: str, address: str, *, isolated: bool = False) -> None:
        self.add(name)
        tap, number = f"vtap{name}", int(address.rpartition(".")[2])
        mac = f"52:54:00:00:00:{number:02x}"
        self.taps[name], self.macs[name] = tap, mac
        self.run("host", "ip", "link", "add", tap, "type", "veth", "peer", "eth0", "netns", self.full(name))
        self.run(name, "ip", "link", "set", "eth0", "address", mac)
        self.run(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.run(name, "ip", "link", "set", "eth0", "up")
        self.run(name, "ip", "route", "add", "default", "via", "192.168.127.1")
        self.python("host", f"{PRELUDE}make_tap({tap!r}, {mac!r}, {address!r}, is_isolated={isolated})")

    def add_outside(self) -> None:
        self.add("outside")
        self.run(
            "host", "ip", "link", "add", "wan0", "type", "veth", "peer", "eth0", "netns", self.full("outside")
        )
        for name, device, address in (("host", "wan0", "198.51.100.1"), ("outside", "eth0", OUTSIDE)):
            self.run(name, "ip", "address", "add", f"{address}/24", "dev", device)
            self.run(name, "ip", "link", "set", device, "up")
        # As a machine of the host's own network may do it.
        self.run("outside", "ip", "route", "add", "192.168.127.0/24", "via", "198.51.100.1")

    def reaches(self, name: str, address: str) -> bool:
        return self.python(name, PING, address).strip() == "answered"

    def connects(self, name: str, address: str, port: int) -> bool:
        code = f"import socket; socket.create_connection(({address!r}, {port}), 2)"
        return self.run(name, sys.executable, "-c", code, check=False).returncode == 0

    def start(self, name: str, code: str, *arguments: str) -> subprocess.Popen[str]:
        """A program that says `ready` first."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.full(name), sys.executable, "-c", textwrap.dedent(code), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def arrives(self, sender: str, receiver: str, frame: bytes, mark: bytes, seconds: float = 1.5) -> bool:
        listener = self.start(receiver, LISTEN, mark.hex(), str(seconds))
        self.python(sender, SEND, frame.hex())
        return listener.communicate(timeout=30)[0].strip() != "0"

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", self.full(name)], check=True)


@pytest.fixture
def net() -> Iterator[Net]:
    found = Net()
    try:
        found.python("host", f"{PRELUDE}install_bridge()")
        found.add_guest("a", FIRST)
        yield found
    finally:
        found.close()


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ip_bytes(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def make_arp(source: str, sender_mac: str, sender_ip: str, target_ip: str, operation: int = 2) -> bytes:
    header = b"\xff" * 6 + mac_bytes(source) + b"\x08\x06"
    body = b"\x00\x01\x08\x00\x06\x04" + operation.to_bytes(2, "big")
    return (
        header
        + body
        + mac_bytes(sender_mac)
        + ip_bytes(sender_ip)
        + bytes(6)
        + ip_bytes(target_ip)
        + bytes(18)
    )


def make_udp(source: str, sender: str, target: str, ports: tuple[int, int], mark: bytes) -> bytes:
    udp = (
        ports[0].to_bytes(2, "big")
        + ports[1].to_bytes(2, "big")
        + (8 + len(mark)).to_bytes(2, "big")
        + b"\0\0"
    )
    head = bytearray(
        b"\x45\x00"
        + (28 + len(mark)).to_bytes(2, "big")
        + b"\0\0\0\0\x40\x11\0\0"
        + ip_bytes(sender)
        + ip_bytes(target)
    )
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (total ^ 0xFFFF).to_bytes(2, "big")
    return b"\xff" * 6 + mac_bytes(source) + b"\x08\x00" + bytes(head) + udp + mark


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


@pytest.mark.parametrize("program", ["iptables", "iptables-legacy"])
def test_beside_docker_guests_reach_out(net: Net, program: str, tmp_path: Path) -> None:
    """Docker sets the policy of FORWARD to DROP and leaves a chain for rules of others."""
    if net.run("host", program, "-nL", check=False).returncode != 0:
        pytest.skip(f"{program} does not work here")
    net.add_outside()
    for command in ("-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"):
        net.run("host", program, *command.split())
    assert not net.reaches("a", OUTSIDE)
    (tmp_path / "iptables").symlink_to(f"/usr/sbin/{program}")
    path = f"import os; os.environ['PATH'] = {str(tmp_path)!r} + ':' + os.environ['PATH']\n{PRELUDE}"
    net.python("host", f"{path}install_bridge(); install_bridge()")
    assert net.reaches("a", OUTSIDE)
    assert not net.reaches("outside", FIRST)
    assert net.run("host", program, "-S", "DOCKER-USER").stdout.count("--comment volant") == 3
    net.python("host", f"{path}remove_bridge()")
    assert "volant" not in net.run("host", program, "-S", "DOCKER-USER").stdout


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
