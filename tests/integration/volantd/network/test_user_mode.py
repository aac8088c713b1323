# SPDX-License-Identifier: Apache-2.0
"""The user-mode network as a hostile guest meets it: frames written by the test, passt and the filter for real."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.errors import Conflict
from volant.volantd.network.types import PublishedPort
from volant.volantd.network.user_mode import (
    GATEWAY,
    GUEST_ADDRESS,
    NAME_SERVER,
    UserNetwork,
    has_default_route,
)

pytestmark = [
    pytest.mark.skipif(shutil.which("passt") is None, reason="passt is not installed"),
    pytest.mark.skipif(not has_default_route(), reason="passt wants a default route"),
]
MAC = "52:54:00:00:00:07"
OUR_MAC = bytes.fromhex(MAC.replace(":", ""))
ADDRESS = "127.127.201.7"


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def make_ipv4(destination: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    addresses = socket.inet_aton(GUEST_ADDRESS) + socket.inet_aton(destination)
    return head[:10] + struct.pack(">H", checksum(head + addresses)) + addresses + payload


SYN, RST, ACK = 2, 4, 16


def make_segment(destination: str, ports: tuple[int, int], flags: int, acknowledged: int = 0) -> bytes:
    segment = struct.pack(">HHIIBBHHH", *ports, 1000, acknowledged, 5 << 4, flags, 65_535, 0, 0)
    pseudo = socket.inet_aton(GUEST_ADDRESS) + socket.inet_aton(destination) + struct.pack(">BBH", 0, 6, 20)
    return make_ipv4(
        destination, 6, segment[:16] + struct.pack(">H", checksum(pseudo + segment)) + segment[18:]
    )


def make_syn(destination: str, port: int) -> bytes:
    return make_segment(destination, (42_000, port), SYN)


def make_datagram(destination: str, port: int, content: bytes) -> bytes:
    return make_ipv4(destination, 17, struct.pack(">HHHH", 42_001, port, 8 + len(content), 0) + content)


class Guest:
    """The guest's end of the wire."""

    gateway_mac: bytes

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))

    def speak(self, mac: bytes = OUR_MAC) -> None:
        """Ask for the gateway, as a kernel does whose card has just got this address."""
        request = b"\x00\x01\x08\x00\x06\x04\x00\x01" + mac + socket.inet_aton(GUEST_ADDRESS)
        self._send(b"\xff" * 6 + mac + b"\x08\x06" + request + bytes(6) + socket.inet_aton(GATEWAY))

    def find_gateway(self) -> None:
        self.speak()
        self.gateway_mac = self.receive()[6:12]

    def _send(self, frame: bytes) -> None:
        self.socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def send(self, packet: bytes) -> None:
        self._send(self.gateway_mac + OUR_MAC + b"\x08\x00" + packet)

    def receive(self) -> bytes:
        length = int.from_bytes(self.socket.recv(4, socket.MSG_WAITALL), "big")
        return self.socket.recv(length, socket.MSG_WAITALL)

    def receive_packet(self, protocol: int) -> bytes:
        while True:
            frame = self.receive()
            if frame[12:14] == b"\x08\x00" and frame[23] == protocol:
                return frame[14:]


@contextlib.asynccontextmanager
async def start_network(
    folder: Path, *published: PublishedPort, is_silent: bool = False
) -> AsyncIterator[Guest]:
    network = UserNetwork(folder / "network.log")
    network.start(folder / "net.sock", MAC, published)
    try:
        await network.wait_ready()
        guest = Guest(folder / "net.sock")
        if not is_silent:
            guest.find_gateway()
        with contextlib.closing(guest.socket):
            yield guest
        await network.ended.wait()  # nobody ends them: they see that the guest is gone
    finally:
        network.close()


async def test_no_frame_reaches_a_service_on_the_hosts_loopback(short_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        async with start_network(short_path) as guest:
            for destination in (GATEWAY, "127.0.0.1", "127.0.0.53", "0.0.0.0"):
                guest.send(make_syn(destination, tcp.getsockname()[1]))
                guest.send(make_datagram(destination, udp.getsockname()[1], b"let me in"))
            # Frames are carried in their order: what was sent before this one's answer has been dealt with.
            guest.send(make_datagram(NAME_SERVER, 9, b""))
            guest.speak()
            while guest.receive()[12:14] != b"\x08\x06":
                pass
            for server in (tcp, udp):
                server.setblocking(False)
                with pytest.raises(BlockingIOError):
                    server.accept() if server is tcp else server.recv(1)


async def test_published_ports_reach_a_guest_that_has_not_said_a_word(short_path: Path) -> None:
    web = PublishedPort(host_ip=ADDRESS, host_port=18_080, guest_port=80)
    names = PublishedPort(host_ip=ADDRESS, host_port=15_353, guest_port=53, protocol="udp")
    async with start_network(short_path, web, names) as guest:
        with socket.socket() as client, socket.socket(type=socket.SOCK_DGRAM) as asker:
            client.setblocking(False)
            client.connect_ex((ADDRESS, 18_080))
            packet = guest.receive_packet(6)
            assert packet[12:16] == socket.inet_aton(GATEWAY)
            assert struct.unpack(">H", packet[22:24])[0] == 80
            asker.sendto(b"who?", (ADDRESS, 15_353))
            packet = guest.receive_packet(17)
            assert struct.unpack(">H", packet[22:24])[0] == 53
            assert packet.endswith(b"who?")


async def test_who_connects_waits_until_the_guest_has_its_own_address(short_path: Path) -> None:
    """passt sends a connection's first frame once, and a copy's card would drop what is not for its original."""
    web = PublishedPort(host_ip=ADDRESS, host_port=18_081, guest_port=80)
    async with start_network(short_path, web, is_silent=True) as guest:
        with socket.socket() as client:
            client.setblocking(False)
            client.connect_ex((ADDRESS, 18_081))
            guest.speak(bytes.fromhex("525400000008"))  # its original's
            guest.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                guest.receive()
            guest.socket.settimeout(20)
            guest.speak()
            packet = guest.receive_packet(6)
            assert struct.unpack(">H", packet[22:24])[0] == 80


async def test_who_connects_before_the_workload_listens_is_answered_once_it_does(short_path: Path) -> None:
    web = PublishedPort(host_ip=ADDRESS, host_port=18_082, guest_port=80)
    async with start_network(short_path, web) as guest:

        def answer(flags: int) -> int:
            """To the next connection's first frame; its client's port."""
            packet = guest.receive_packet(6)
            client, port, sequence = struct.unpack(">HHI", packet[20:28])
            if packet[33] == SYN:
                guest.send(make_segment(GATEWAY, (port, client), flags | ACK, sequence + 1))
            return int(client)

        with socket.socket() as first, socket.socket() as second:
            for client in (first, second):
                client.settimeout(60)
                client.connect((ADDRESS, 18_082))
            ports = {client.getsockname()[1] for client in (first, second)}
            refused = [answer(RST) for _ in range(8)]
            assert set(refused) == ports
            answered: set[int] = set()
            while answered != ports:
                answered.add(answer(SYN))
            # Nothing more is repeated, and the two are connections as any others.
            for client in (first, second):
                client.sendall(b"GET /")
            told = b""
            while told.count(b"GET /") < 2:
                packet = guest.receive_packet(6)
                assert packet[33] & (SYN | RST) == 0
                told += packet[40:]
        # Now that something has listened, what the guest says is heard at once.
        with socket.socket() as third:
            third.settimeout(60)
            third.connect((ADDRESS, 18_082))
            port = third.getsockname()[1]
            while answer(RST) != port:
                pass
            with contextlib.suppress(ConnectionResetError):
                assert third.recv(1) == b""


async def test_a_port_in_use_is_a_conflict_that_leaves_nothing(short_path: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        port = PublishedPort(host_ip=ADDRESS, host_port=taken.getsockname()[1], guest_port=80)
        network = UserNetwork(short_path / "network.log")
        network.start(short_path / "net.sock", MAC, [port])
        with pytest.raises(Conflict, match=str(port.host_port)):
            await network.wait_ready()
        network.close()
        await network.ended.wait()


@pytest.mark.parametrize("victim", [0, 1])
async def test_where_one_process_is_killed_the_others_end(victim: int, short_path: Path) -> None:
    network = UserNetwork(short_path / "network.log")
    network.start(short_path / "net.sock", MAC, ())
    await network.wait_ready()
    guest = Guest(short_path / "net.sock")
    guest.find_gateway()
    os.kill(network.processes[victim], signal.SIGKILL)
    with contextlib.closing(guest.socket):
        while guest.socket.recv(65_536):
            pass
    await network.ended.wait()
    assert not (short_path / "net.sock").exists()


INSIDE = """
    import asyncio, socket, sys
    from pathlib import Path
    from test_user_mode import NAME_SERVER, make_datagram, make_syn, start_network

    async def main():
        outside = socket.create_server(("198.51.100.7", 0))
        resolver = socket.socket(type=socket.SOCK_DGRAM)
        resolver.bind(("127.0.0.53", 53))
        async with start_network(Path(sys.argv[1])) as guest:
            guest.send(make_syn("198.51.100.7", outside.getsockname()[1]))
            print("reached", outside.accept()[1][0])
            guest.send(make_datagram(NAME_SERVER, 53, b"question"))
            question, asker = resolver.recvfrom(100)
            resolver.sendto(b"answer", asker)
            print(question, guest.receive_packet(17)[28:])

    asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_the_way_out_and_names_stay(short_path: Path) -> None:
    """In a namespace whose other interface, a bridge, leads nowhere, with a resolver on loopback as systemd's."""
    (short_path / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    script = f"""
        set -e
        mount --bind {short_path}/resolv.conf /etc/resolv.conf
        ip link set lo up
        ip link add outside type bridge
        ip address add 198.51.100.7/24 dev outside
        ip link set outside up
        ip route add default via 198.51.100.1
        exec {sys.executable} -c "$1" {short_path}
    """
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script, "sh", textwrap.dedent(INSIDE)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["reached 198.51.100.7", "b'question' b'answer'"], done.stderr
