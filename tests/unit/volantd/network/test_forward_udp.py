# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from volant.errors import Conflict
from volant.volantd.network import forward_udp
from volant.volantd.network.forward import PortForwarder
from volant.volantd.network.types import PublishedPort


class Echo(asyncio.DatagramProtocol):
    """A guest's service that answers each sender with what it sent and where it came from."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # of its kind
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(b"%s from %d" % (data, addr[1]), addr)


def make_socket() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setblocking(False)
    found.bind(("127.0.0.1", 0))
    return found


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with make_socket() as found:
        yield found


@asynccontextmanager
async def publish() -> AsyncIterator[PublishedPort]:
    loop = asyncio.get_running_loop()
    guest, _ = await loop.create_datagram_endpoint(Echo, sock=make_socket())
    with make_socket() as probe:
        free = probe.getsockname()[1]
    port = PublishedPort("127.0.0.1", free, guest.get_extra_info("sockname")[1], "udp")
    async with PortForwarder([port], lambda port: ("127.0.0.1", port.guest_port)):
        yield port
    guest.close()


async def ask(client: socket.socket, port: PublishedPort, word: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(client, word, (port.host_ip, port.host_port))
    return await asyncio.wait_for(loop.sock_recv(client, 100), 10)


async def ask_once(client: socket.socket, port: PublishedPort, word: bytes) -> bytes:
    """Empty where no answer comes in a while."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(client, word, (port.host_ip, port.host_port))
    try:
        return await asyncio.wait_for(loop.sock_recv(client, 100), 0.5)
    except TimeoutError:
        return b""


async def test_each_client_is_answered_from_a_socket_of_its_own(client: socket.socket) -> None:
    async with publish() as port:
        first = await ask(client, port, b"one")
        assert first.startswith(b"one from ")
        assert await ask(client, port, b"two") == first.replace(b"one", b"two")
        with make_socket() as other:
            assert (await ask(other, port, b"one")).partition(b" ")[2] != first.partition(b" ")[2]


async def test_the_most_silent_client_makes_room(
    monkeypatch: pytest.MonkeyPatch, client: socket.socket
) -> None:
    monkeypatch.setattr(forward_udp, "MOST_CLIENTS", 1)
    async with publish() as port:
        first = await ask(client, port, b"a")
        with make_socket() as other:
            await ask(other, port, b"a")
        # From another socket than before, whose port the kernel chose again out of 28,000.
        assert await ask(client, port, b"a") != first


async def test_a_silent_client_is_forgotten(monkeypatch: pytest.MonkeyPatch, client: socket.socket) -> None:
    async with publish() as port:
        first = await ask(client, port, b"a")
        monkeypatch.setattr(forward_udp, "IDLE_SECONDS", 0.05)
        async with asyncio.timeout(60):
            # On a busy host an answer comes to one that is forgotten already, and is lost.
            while await ask_once(client, port, b"a") in (first, b""):  # noqa: ASYNC110  # of a clock
                await asyncio.sleep(0.2)


async def test_a_port_in_use_is_said() -> None:
    with make_socket() as taken:
        port = PublishedPort("127.0.0.1", taken.getsockname()[1], 53, "udp")
        with pytest.raises(Conflict, match="the port is in use"):
            await PortForwarder([port], lambda port: ("127.0.0.1", port.guest_port)).start()
