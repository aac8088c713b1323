# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from volant.volantd.network import splice
from volant.volantd.network.splice import Splice


@asynccontextmanager
async def carry(far_port: int, gate: asyncio.Event) -> AsyncIterator[tuple[int, list[Splice], list[Splice]]]:
    """A listener whose connections go there once the gate is open; its port, those that began and those that ended."""
    begun, ended = list[Splice](), list[Splice]()

    async def dial(one: Splice) -> None:
        await gate.wait()
        await asyncio.get_running_loop().create_connection(one.renew_far, "127.0.0.1", far_port)

    def accept() -> asyncio.Protocol:
        begun.append(Splice(dial, ended.append))
        return begun[-1].near

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], begun, ended
    finally:
        server.close()
        for one in begun:
            one.abort()


async def test_nothing_is_read_of_a_client_until_there_is_somebody_to_carry_it_to() -> None:
    taken = asyncio.Event()
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        taken.set()
        writer.close()

    far = await asyncio.start_server(serve, "127.0.0.1", 0)
    gate = asyncio.Event()
    async with carry(far.sockets[0].getsockname()[1], gate) as (port, begun, ended):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        while not begun:  # noqa: ASYNC110  # a list
            await asyncio.sleep(0.01)
        assert not ended
        gate.set()
        await asyncio.wait_for(taken.wait(), 20)
        assert received == [b"x" * 1_000_000]
        writer.close()
    far.close()


async def test_both_ends_are_over_once_each_has_ended() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.abort()

    far = await asyncio.start_server(serve, "127.0.0.1", 0)
    gate = asyncio.Event()
    gate.set()
    async with carry(far.sockets[0].getsockname()[1], gate) as (port, begun, ended):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"go\n")
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        while ended != begun:  # noqa: ASYNC110  # a list
            await asyncio.sleep(0.01)
        (one,) = ended
        assert one.waits_for_far
    far.close()


async def test_what_cannot_be_dialled_ends_at_once(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()
    gate.set()
    async with carry(1, gate) as (port, _, ended):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        assert len(ended) == 1
    assert "cannot be carried" in caplog.text


async def test_what_is_cut_is_seen_to_be_cut_and_who_is_gone_is_noticed() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"part of an answer\n")
        await reader.read()
        writer.close()

    far = await asyncio.start_server(serve, "127.0.0.1", 0)
    gate = asyncio.Event()
    gate.set()
    async with carry(far.sockets[0].getsockname()[1], gate) as (port, begun, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.readline(), 60) == b"part of an answer\n"
        for end in (begun[0].near, begun[0].far):
            assert end.transport is not None
            opened = end.transport.get_extra_info("socket")
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        begun[0].abort()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 60)
        writer.close()
    far.close()


async def test_without_room_nobody_is_dialled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "has_room", lambda _: False)
    async with carry(1, asyncio.Event()) as (port, _, ended):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        assert len(ended) == 1
        writer.close()


def test_there_is_room_for_what_leaves_enough_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert splice.has_room(383)
    assert not splice.has_room(384)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert splice.has_room(1 << 30)


async def test_each_that_ends_makes_room() -> None:
    before = Splice._count
    gate = asyncio.Event()
    gate.set()
    far = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with carry(far.sockets[0].getsockname()[1], gate) as (port, begun, ended):
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()
        async with asyncio.timeout(60):
            while ended != begun:  # noqa: ASYNC110  # a list
                await asyncio.sleep(0.01)
        assert len(begun) == 5
    far.close()
    assert Splice._count == before
