# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from volant.errors import Unreachable
from volant.kubernetes.port_forward import _carry


class FakeStream:
    def __init__(self, **headers: str) -> None:
        self.headers = headers
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sent, self.is_over = b"", False

    async def send(self, content: bytes, *, is_last: bool = False) -> None:
        self.sent += content
        self.is_over |= is_last


class FakeClient:
    def __init__(self, port: int | None) -> None:
        self._port = port

    @asynccontextmanager
    async def open_port(self, name: str, port: int) -> AsyncIterator[socket.socket]:
        if self._port is None:
            raise Unreachable("its agent does not answer")
        yield socket.create_connection(("127.0.0.1", self._port))


@pytest.mark.asyncio
async def test_a_connection_is_carried_both_ways_to_its_end() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    data, error = FakeStream(port="80"), FakeStream()
    for part in (b"hello ", b"world", None):
        data.incoming.put_nowait(part)
    async with server:
        client = FakeClient(server.sockets[0].getsockname()[1])
        await _carry(cast("Any", client), "web", cast("Any", data), cast("Any", error))
    assert (data.sent, data.is_over, error.sent, error.is_over) == (b"HELLO WORLD", True, b"", True)


@pytest.mark.asyncio
async def test_what_cannot_be_reached_is_told_on_the_stream_of_errors() -> None:
    data, error = FakeStream(port="80"), FakeStream()
    await _carry(cast("Any", FakeClient(None)), "web", cast("Any", data), cast("Any", error))
    assert b"does not answer" in error.sent
    assert data.is_over
