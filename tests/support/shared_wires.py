# SPDX-License-Identifier: Apache-2.0
"""Guests on the shared network whose ends of the wires a test holds; for programs that tests run in namespaces."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from dnslib import EDNS0, RCODE, RR, A, DNSRecord

from volant.contract.egress import parse_egress
from volant.volantd.network.bridge import BRIDGE_MAC
from volant.volantd.network.bridge_ipv6 import make_address
from volant.volantd.network.egress.guard import EgressGuard
from volant.volantd.network.shared.network import GATEWAY as GATEWAY_ADDRESS
from volant.volantd.network.shared.network import SharedNetwork, make_net
from volant.volantd.network.shared.rules import Guest

__all__ = [
    "EDNS0",
    "GATEWAY",
    "GATEWAY_MAC",
    "RCODE",
    "DNSRecord",
    "EgressGuard",
    "Resolver",
    "asyncio",
    "make_address", "replace", "run", "socket",
]  # fmt: skip

GATEWAY, GATEWAY_MAC = str(GATEWAY_ADDRESS), BRIDGE_MAC
# struct virtio_net_hdr, before each frame of such a tap device.
HEADER = bytes(10)
MARK = b"that was all"
DEADLINE_SECONDS = 20.0


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Wire:
    """One guest's end."""

    def __init__(self, number: int, name: str, networks: Sequence[str]) -> None:
        self.name, self.mac, self.address = name, f"52:54:00:00:00:{number:02x}", f"10.127.0.{number}"
        prefix = make_net().prefix
        self.address6 = str(make_address(prefix, self.address)) if prefix else ""
        self.guest = Guest(
            f"vtap{name}", self.mac, self.address, tuple(networks), name, address6=self.address6
        )
        self.tap, self._port = -1, 43_000

    def hold(self, egress: str) -> None:
        """Counts from the network's next `refresh`."""
        self.guest = replace(self.guest, egress=parse_egress(egress))

    def connect(self, destination: str, port: int) -> str:
        """What comes of a first segment to there: "answered", "refused" or nothing."""
        self.write(self.make_syn(destination, port))
        return self.read_fate(destination)

    def read_fate(self, destination: str) -> str:
        end = time.monotonic() + DEADLINE_SECONDS
        while (left := end - time.monotonic()) > 0:
            frame = self.read(left) or b""
            # IPv4; ICMP says "administratively prohibited" (RFC 1812, 5.2.7.1) and quotes what it is about.
            if frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[34:36] == b"\x03\x0d":
                if frame[58:62] == socket.inet_aton(destination):
                    return "refused"
            elif frame[12:14] == b"\x08\x00" and frame[26:30] == socket.inet_aton(destination):
                is_reset = frame[23] == 6 and frame[47] & 4
                return "refused" if is_reset else "answered"
        return "nothing"

    def write(self, frame: bytes) -> None:
        os.write(self.tap, HEADER + frame)

    def read(self, seconds: float) -> bytes | None:
        return (
            os.read(self.tap, 65_536)[len(HEADER) :]
            if select.select([self.tap], [], [], seconds)[0]
            else None
        )

    def wait_for(self, mark: bytes) -> bytes | None:
        """The next frame with these bytes in it; None once the deadline has passed."""
        end = time.monotonic() + DEADLINE_SECONDS
        while (left := end - time.monotonic()) > 0:
            if (frame := self.read(left)) is not None and mark in frame:
                return frame
        return None

    def wait_for_answer(self) -> DNSRecord:
        frame = self.wait_for(struct.pack(">HH", 53, 42_001))
        assert frame is not None
        return DNSRecord.parse(frame[14 + 28 :])

    def make_frame(self, kind: int, payload: bytes, to: str, mac: str = "") -> bytes:
        return _bytes(to) + _bytes(mac or self.mac) + struct.pack(">H", kind) + payload

    def make_arp(self, target: Wire, address: str = "") -> bytes:
        payload = (
            b"\x00\x01\x08\x00\x06\x04\x00\x01" + _bytes(self.mac) + socket.inet_aton(address or self.address)
        )
        return self.make_frame(
            0x0806, payload + bytes(6) + socket.inet_aton(target.address), "ff:ff:ff:ff:ff:ff"
        )

    def make_packet(self, destination: str, protocol: int, payload: bytes, address: str = "") -> bytes:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
        addresses = socket.inet_aton(address or self.address) + socket.inet_aton(destination)
        return head[:10] + struct.pack(">H", _checksum(head + addresses)) + addresses + payload

    def make_datagram(
        self, target: Wire, content: bytes, *, mac: str = "", address: str = "", to_mac: str = ""
    ) -> bytes:
        segment = struct.pack(">HHHH", 42_001, 9, 8 + len(content), 0) + content
        packet = self.make_packet(target.address, 17, segment, address)
        return self.make_frame(0x0800, packet, to_mac or target.mac, mac)

    def make_datagram_to(self, destination: str, port: int, content: bytes) -> bytes:
        segment = struct.pack(">HHHH", 42_001, port, 8 + len(content), 0) + content
        return self.make_frame(0x0800, self.make_packet(destination, 17, segment), GATEWAY_MAC)

    def make_syn(self, destination: str, port: int) -> bytes:
        self._port += 1
        segment = struct.pack(">HHIIBBHHH", self._port, port, 1000, 0, 5 << 4, 2, 65_535, 0, 0)
        pseudo = (
            socket.inet_aton(self.address) + socket.inet_aton(destination) + struct.pack(">BBH", 0, 6, 20)
        )
        segment = segment[:16] + struct.pack(">H", _checksum(pseudo + segment)) + segment[18:]
        return self.make_frame(0x0800, self.make_packet(destination, 6, segment), GATEWAY_MAC)

    def make_syn6(self, destination: str, port: int) -> bytes:
        segment = struct.pack(">HHIIBBHHH", 42_000, port, 1000, 0, 5 << 4, 2, 65_535, 0, 0)
        addresses = b"".join(socket.inet_pton(socket.AF_INET6, one) for one in (self.address6, destination))
        total = _checksum(addresses + struct.pack(">IHBB", 20, 0, 0, 6) + segment)
        segment = segment[:16] + struct.pack(">H", total) + segment[18:]
        head = struct.pack(">IHBB", 6 << 28, len(segment), 6, 64)
        return self.make_frame(0x86DD, head + addresses + segment, GATEWAY_MAC)

    def announce(self) -> None:
        """The kernel of the namespace learns who has this address, without having to ask."""
        payload = b"\x00\x01\x08\x00\x06\x04\x00\x01" + _bytes(self.mac) + socket.inet_aton(self.address)
        gateway = bytes(6) + socket.inet_aton(GATEWAY)
        self.write(self.make_frame(0x0806, payload + gateway, "ff:ff:ff:ff:ff:ff"))


class Resolver:
    """The host's own, at 127.0.0.53: it has these addresses by name, and keeps what it was asked."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.names = names
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.53", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            question = DNSRecord.parse(packet)
            self.asked.append(f"{question.q.qname} {len(question.ar)}")
            reply = question.reply()
            for address in self.names.get(str(question.q.qname).rstrip("."), []):
                reply.add_answer(RR(question.q.qname, rdata=A(address), ttl=60))
            self._socket.sendto(reply.pack(), peer)


class Wires(list[Wire]):
    def list_receivers(self, frame: bytes, sender: Wire) -> list[str]:
        """Who gets a frame, until each has got what the namespace itself sends it afterwards."""
        sender.write(frame)
        found = []
        for wire in self:
            if wire is sender:
                continue
            # From its own gateway each gets what comes after the frame, in their order.
            probe = socket.inet_aton(wire.address) + MARK
            _send_mark(wire, probe)
            while (received := wire.read(DEADLINE_SECONDS)) is not None and probe not in received:
                if received[12:] == frame[12:]:
                    found.append(wire.name)
            assert received is not None, f"nothing comes to {wire.name} any more"
        return found


_marker: socket.socket | None = None


def _send_mark(wire: Wire, content: bytes) -> None:
    assert _marker is not None
    _marker.sendto(content, (wire.address, 9))


def run(
    act: Callable[[Wires, SharedNetwork], Awaitable[None]],
    guests: Sequence[tuple[str, Sequence[str]]],
    egress: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make the network and its wires, act, and let go of all. The folder is the program's first argument."""

    async def main() -> None:
        global _marker
        wires = Wires(Wire(number, name, networks) for number, (name, networks) in enumerate(guests, start=1))
        for wire in wires:
            wire.hold(egress.get(wire.name, "open"))
        folder = Path(sys.argv[1])
        network = SharedNetwork(
            folder, folder, is_on=True, find_guests=lambda: [wire.guest for wire in wires]
        )
        assert await network.find_obstacle() is None, network.failure
        _marker = await network.open_socket(socket.SOCK_DGRAM)
        await network.lead_out()
        for wire in wires:
            wire.tap = await network.open_tap(wire.guest.tap)
        await network.refresh()
        for wire in wires:
            wire.announce()
        await act(wires, network)
        for wire in wires:
            os.close(wire.tap)
        await network.close()

    asyncio.run(main())
