# SPDX-License-Identifier: Apache-2.0
"""Clients that say nothing take no place from others: real sockets, an application that always answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from volant.volantd.api.connections import (
    MOST_HEADER_BYTES,
    RepeatFilter,
    choose_limit,
    make_protocol,
)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HELLO = PlainTextResponse("hello")
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def serve(
    path: Path, limit: int, header_seconds: float, application: ASGIApp | None = None
) -> AsyncIterator[None]:
    config = uvicorn.Config(application or HELLO, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    protocol = make_protocol(limit, header_seconds)
    server = await asyncio.get_running_loop().create_unix_server(lambda: protocol(config, state, {}), path)
    try:
        yield
    finally:
        server.close()


@contextlib.asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(path: Path) -> bytes:
    async with connect(path) as (reader, writer):
        writer.write(REQUEST)
        return await reader.read(12)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_request_that_does_not_come_is_given_up(beginning: bytes, tmp_path: Path) -> None:
    async with serve(tmp_path / "s", 10, 0.05), connect(tmp_path / "s") as (reader, writer):
        writer.write(beginning)
        assert await read_to_end(reader) == b""


async def test_the_second_request_of_a_connection_has_the_same_limit(tmp_path: Path) -> None:
    async with serve(tmp_path / "s", 10, 0.05), connect(tmp_path / "s") as (reader, writer):
        writer.write(REQUEST + b"GET / HTT")
        assert (await read_to_end(reader)).endswith(b"hello")


async def test_a_body_that_ends_in_one_read_is_no_header(tmp_path: Path) -> None:
    async def take(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await HELLO(scope, receive, send)

    body = b"x" * 1_000_000  # many times what one read takes, and the last of them ends the request
    async with serve(tmp_path / "s", 10, 60, take), connect(tmp_path / "s") as (reader, writer):
        for size in (len(body), 100_000):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + body[:size])
            assert await reader.readuntil(b"hello") != b""
    async with serve(tmp_path / "t", 10, 60), connect(tmp_path / "t") as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-Long: " + body[:70_000])
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 400")


async def test_an_answer_that_takes_long_is_not_cut(tmp_path: Path) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        await HELLO(scope, receive, send)

    async with serve(tmp_path / "s", 10, 0.05, slow):
        assert await ask(tmp_path / "s") == b"HTTP/1.1 200"


async def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    async with serve(tmp_path / "s", 10, 60), connect(tmp_path / "s") as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * MOST_HEADER_BYTES)
        assert (await reader.read(12)) == b"HTTP/1.1 400"
        assert (await read_to_end(reader)).endswith(b"larger than 64 KiB.")


@pytest.mark.parametrize("size", [0, 1, MOST_HEADER_BYTES + 1, 10 * MOST_HEADER_BYTES])
async def test_a_body_of_any_size_is_no_header(size: int, tmp_path: Path) -> None:
    async def measure(scope: Scope, receive: Receive, send: Send) -> None:
        received, more = 0, True
        while more:
            message = await receive()
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
        await PlainTextResponse(f"{received}!")(scope, receive, send)

    async with serve(tmp_path / "s", 10, 0.5, measure), connect(tmp_path / "s") as (reader, writer):
        for _ in range(3):  # on one connection: what comes after a body is a header again
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            assert (await reader.readuntil(b"!")).endswith(b"\r\n\r\n%d!" % size)
        writer.write(b"\r\n\r\n")  # empty lines begin nothing, and hold no connection
        assert await read_to_end(reader) == b""


async def test_beyond_the_limit_connections_are_closed_and_the_others_served(tmp_path: Path) -> None:
    async with serve(tmp_path / "s", 3, 60), contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connect(tmp_path / "s")) for _ in range(3)]
        async with connect(tmp_path / "s") as (reader, _):
            assert await read_to_end(reader) == b""
        held[0][1].write(REQUEST)
        assert await held[0][0].read(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 1 << 20])
def test_all_listeners_together_leave_descriptors_for_the_rest(descriptors: int) -> None:
    limits = [choose_limit(descriptors, is_tcp=is_tcp) for is_tcp in (True, False)]
    assert all(limit >= 4 for limit in limits)
    assert sum(limits) < descriptors
    assert limits[0] <= limits[1]


def test_lines_that_repeat_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = RepeatFilter(seconds=1000)
    logger = logging.getLogger("volant.test.repeats")
    logger.addFilter(clock)
    for number in range(5):
        logger.warning("refused %d", number)
    clock._seen = {message: (-1e9, held) for message, (_, held) in clock._seen.items()}
    logger.warning("refused %d", 9)
    logger.error("a fault")
    logger.error("a fault")
    logger.removeFilter(clock)
    assert caplog.messages == ["refused 0", "refused 9 (4 more like this)", "a fault", "a fault"]
