# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import socket

import pytest

from volant.errors import Conflict
from volant.volantd.network.forward import PortForwarder
from volant.volantd.network.types import PublishedPort


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def echo_in_capitals(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only once the client has ended its half: proves that halves close apart."""
    writer.write((await reader.read()).upper())
    writer.close()


async def test_bytes_pass_both_ways_and_halves_close_apart() -> None:
    guest = await asyncio.start_server(echo_in_capitals, "127.0.0.1", 0)
    guest_port = guest.sockets[0].getsockname()[1]
    published = PublishedPort(host_ip="127.0.0.1", host_port=find_free_port(), guest_port=guest_port)
    async with PortForwarder([published], lambda port: ("127.0.0.1", port.guest_port)):
        reader, writer = await asyncio.open_connection("127.0.0.1", published.host_port)
        writer.write(b"x" * 300_000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"X" * 300_000
        writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", published.host_port)
    guest.close()


async def test_a_guest_that_refuses_ends_the_connection() -> None:
    published = PublishedPort(host_ip="127.0.0.1", host_port=find_free_port(), guest_port=find_free_port())
    async with PortForwarder([published], lambda port: ("127.0.0.1", port.guest_port)):
        reader, writer = await asyncio.open_connection("127.0.0.1", published.host_port)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_port_in_use_is_said_and_no_other_stays_open() -> None:
    free = find_free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = [
            PublishedPort(host_ip="127.0.0.1", host_port=host_port, guest_port=80)
            for host_port in (free, taken)
        ]
        with pytest.raises(Conflict, match=f"127.0.0.1:{taken}: the port is in use"):
            await PortForwarder(ports, lambda port: ("127.0.0.1", port.guest_port)).start()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", free)
