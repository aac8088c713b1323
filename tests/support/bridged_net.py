# SPDX-License-Identifier: Apache-2.0
"""A host with the bridge, guests on it and a machine outside, each a network namespace: a veth stands in the place of
a VM's tap, and what a test sends are real frames."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from volant.volantd.network.bridge_ipv6 import make_address, make_prefix

FIRST, SECOND, OUTSIDE = "192.168.127.100", "192.168.127.101", "198.51.100.2"
OUTSIDE6 = "2001:db8::2"
PREFIX = make_prefix()
PRELUDE = "from volant.volantd.network.bridge import *\n"
# Sends the frame that it is given and prints how many of its kind arrive at the other side within half a second.
SEND = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
raw.send(bytes.fromhex(sys.argv[1]))
"""
# Echo requests until one is answered, for two seconds. A kernel fills in the checksum of ICMPv6 itself.
PING = """
import select, socket, sys
is_six = ":" in sys.argv[1]
kind = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if is_six else (socket.AF_INET, socket.IPPROTO_ICMP)
raw = socket.socket(kind[0], socket.SOCK_RAW, kind[1])
request, answer = ("8000000000010001", (0, 129)) if is_six else ("0800e9f10e0e0000", (20, 0))
for _ in range(4):
    try:
        raw.sendto(bytes.fromhex(request), (sys.argv[1], 0))
    except OSError:
        pass
    while select.select([raw], [], [], 0.5)[0]:
        if raw.recv(1500)[answer[0]] == answer[1]:
            sys.exit(print("answered"))
"""
# Whether such a frame arrives until so many seconds after the sender has ended, which standard input tells.
LISTEN = """
import select, socket, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
raw.bind(("eth0", 0))
print("ready", flush=True)
mark, seconds, watched, end = bytes.fromhex(sys.argv[1]), float(sys.argv[2]), [raw, sys.stdin], time.monotonic() + 60
while (left := end - time.monotonic()) > 0:
    ready = select.select(watched, [], [], left)[0]
    if sys.stdin in ready:
        watched, end = [raw], time.monotonic() + seconds
    if raw in ready and mark in raw.recv(4096):
        sys.exit(print("arrived"))
"""


def ipv6(lease: str) -> str:
    return str(make_address(PREFIX, lease))


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
        self.run(name, "ip", "address", "add", f"{ipv6(address)}/64", "dev", "eth0", "nodad")
        self.run(name, "ip", "route", "add", "default", "via", ipv6("192.168.127.1"))
        self.python("host", f"{PRELUDE}make_tap({tap!r}, {mac!r}, {address!r}, is_isolated={isolated})")

    def add_outside(self) -> None:
        self.add("outside")
        self.run(
            "host", "ip", "link", "add", "wan0", "type", "veth", "peer", "eth0", "netns", self.full("outside")
        )
        for name, device, address, address6 in (
            ("host", "wan0", "198.51.100.1", "2001:db8::1"),
            ("outside", "eth0", OUTSIDE, OUTSIDE6),
        ):
            self.run(name, "ip", "address", "add", f"{address}/24", "dev", device)
            self.run(name, "ip", "address", "add", f"{address6}/64", "dev", device, "nodad")
            self.run(name, "ip", "link", "set", device, "up")
        # As a machine of the host's own network may do it.
        self.run("outside", "ip", "route", "add", "192.168.127.0/24", "via", "198.51.100.1")
        self.run("outside", "ip", "route", "add", str(PREFIX), "via", "2001:db8::1")

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

    def arrives(self, sender: str, receiver: str, frame: bytes, mark: bytes, seconds: float = 10) -> bool:
        """`seconds`: how long it may take; a test that expects it not to arrive waits for all of them."""
        listener = self.start(receiver, LISTEN, mark.hex(), str(seconds))
        self.python(sender, SEND, frame.hex())
        return listener.communicate("\n", timeout=90)[0].strip() == "arrived"

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", self.full(name)], check=True)


@contextmanager
def start_net() -> Iterator[Net]:
    """The bridge and the guest `a`."""
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


def make_icmpv6(source: str, sender: str, receiver: str, body: bytes) -> bytes:
    """`body`: type, code, two bytes for the checksum, the rest."""
    addresses = ipaddress.IPv6Address(sender).packed + ipaddress.IPv6Address(receiver).packed
    padded = addresses + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body + b"\0" * (len(body) % 2)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + (total ^ 0xFFFF).to_bytes(2, "big") + body[4:]
    head = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\xff"
    return b"\x33\x33\0\0\0\1" + mac_bytes(source) + b"\x86\xdd" + head + addresses + body


def make_neighbor(kind: int, target: str, mac: str) -> bytes:
    """A solicitation (135) or an advertisement (136) with the option that names a hardware address."""
    flags = b"\x20\0\0\0" if kind == 136 else bytes(4)
    option = bytes([kind - 134, 1]) + mac_bytes(mac)
    return bytes([kind, 0, 0, 0]) + flags + ipaddress.IPv6Address(target).packed + option
