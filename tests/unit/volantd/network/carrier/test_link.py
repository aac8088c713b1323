# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from volant.errors import Conflict, ToolFailed
from volant.volantd.network.carrier.link import Link, open_link

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def link_to(play: Play, place: Path, on_end: Callable[[], None] = lambda: None) -> AsyncIterator[Link]:
    server = await asyncio.start_unix_server(play, str(place))
    link = await open_link(str(place), on_end)
    assert link is not None
    try:
        yield link
    finally:
        await link.close()
        server.close()


async def read(reader: asyncio.StreamReader) -> dict[str, object]:
    found: dict[str, object] = json.loads(await reader.readline())
    return found


def write(writer: asyncio.StreamWriter, **answer: object) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")


async def test_each_has_its_own_answer_in_whatever_order(tmp_path: Path) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = [await read(reader) for _ in range(3)]
        write(writer, number=99)
        write(
            writer,
            number=asked[2]["number"],
            error=["conflict", "cannot publish: in use", ["who"], "another"],
        )
        write(writer, number=asked[1]["number"], error=["odd", "cannot publish: odd", [], ""])
        write(writer, number=asked[0]["number"])

    async with link_to(play, tmp_path / "s") as link:
        tasks = [asyncio.ensure_future(link.ask({"verb": "hold"})) for _ in range(3)]
        first, second, third = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert first is None
        assert isinstance(second, ToolFailed)
        assert isinstance(third, Conflict)
        assert (third.what, third.details, third.resolution) == (
            "cannot publish: in use",
            ("who",),
            "another",
        )
        assert not link.is_busy


@pytest.mark.parametrize("last_words", [b"", b"no message\n"])
async def test_who_asks_is_told_of_its_end(tmp_path: Path, last_words: bytes) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(last_words)
        writer.close()

    ended = asyncio.Event()
    async with link_to(play, tmp_path / "s", ended.set) as link:
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(link.ask({"verb": "hold"}), 60)
        await asyncio.wait_for(ended.wait(), 60)
        assert not link.is_open
        with pytest.raises(ConnectionResetError):
            await link.ask({"verb": "hold"})


async def test_nobody_listens(tmp_path: Path) -> None:
    assert await open_link(str(tmp_path / "s"), lambda: None) is None
