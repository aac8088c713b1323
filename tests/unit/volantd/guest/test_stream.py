# SPDX-License-Identifier: Apache-2.0
"""What an earlier host left in the stream never reaches the SSH library."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from volant.contract.agent import GREETING_PREFIX
from volant.errors import Unreachable
from volant.volantd.guest import stream
from volant.volantd.guest.stream import AgentStream


class Session(asyncio.Protocol):
    """Stands for the SSH library's connection."""

    def __init__(self) -> None:
        self.received = asyncio.StreamReader()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)


@asynccontextmanager
async def open_stream() -> AsyncIterator[tuple[Session, socket.socket, bytes]]:
    """The session, the agent's end, and the greeting that opens the stream."""
    ours, agent = socket.socketpair()
    with agent:
        agent.setblocking(False)
        agent_stream = AgentStream(ours)
        transport, session = await agent_stream.create_connection(Session, "guest", 22)
        assert isinstance(session, Session)
        yield session, agent, f"{GREETING_PREFIX}SSH-2.0-{agent_stream.client_version}\r\n".encode()
        transport.close()


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 16])
@pytest.mark.parametrize("left_over", [b"", b"\n" * 5000, b"SSH-2.0-Go\r\n", GREETING_PREFIX.encode() * 3])
async def test_only_what_follows_the_greeting_arrives(left_over: bytes, piece_bytes: int) -> None:
    async with open_stream() as (session, agent, greeting):
        said = left_over + b"\r\n" + greeting + b"SSH-2.0-Go\r\n"
        for start in range(0, len(said), piece_bytes):
            await asyncio.get_running_loop().sock_sendall(agent, said[start : start + piece_bytes])
        assert await session.received.readline() == b"SSH-2.0-Go\r\n"
        await asyncio.get_running_loop().sock_sendall(agent, greeting)
        assert await session.received.readline() == greeting, "only the first greeting is the stream's"


async def test_the_greeting_of_another_host_opens_nothing() -> None:
    async with open_stream() as (session, agent, _):
        agent.send(f"{GREETING_PREFIX}SSH-2.0-volant_0123456789abcdef\r\nSSH-2.0-Go\r\n".encode())
        agent.close()
        assert await session.lost is None
        session.received.feed_eof()
        assert await session.received.read() == b""


async def test_an_agent_that_never_greets_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SKIPPED_LIMIT_BYTES", 1000)
    async with open_stream() as (session, agent, _):
        agent.send(b"x" * 2000)
        assert isinstance(await session.lost, Unreachable)
