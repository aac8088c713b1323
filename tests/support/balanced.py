# SPDX-License-Identifier: Apache-2.0
"""A balancer on loopback, and servers in the place of guests behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from volant.volantd.network.balancer import Backend, Balancer
from volant.volantd.network.types import PublishedPort

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answer_as(name: str) -> Serve:
    """Each line is answered by this name, until the client ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.readline():
                writer.write(f"{name}\n".encode())
                await writer.drain()
        writer.close()

    return serve


@asynccontextmanager
async def start_guest(name: str, serve: Serve | None = None) -> AsyncIterator[Backend]:
    server = await asyncio.start_server(serve or answer_as(name), "127.0.0.1", 0)  # type: ignore[arg-type]
    host, port = server.sockets[0].getsockname()
    try:
        yield Backend(name, (host, port))
    finally:
        server.close()


@asynccontextmanager
async def balance(*backends: Backend) -> AsyncIterator[tuple[Balancer, PublishedPort]]:
    port = PublishedPort("127.0.0.1", find_free_port(), 80)
    balancer = Balancer([port])
    balancer.set_backends({port: backends})
    await balancer.start()
    try:
        yield balancer, port
    finally:
        balancer.close()


async def connect(port: PublishedPort) -> Connection:
    return await asyncio.open_connection(port.host_ip, port.host_port)
