# SPDX-License-Identifier: Apache-2.0
"""A client that names a window is sent no more than it has acknowledged, and all of it in the end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, cast

import pytest
from pydantic import ValidationError

from volant.volantd.api.byte_streams import CHUNK_BYTES, Allowance, heed, pump

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Browser:
    """A WebSocket whose page takes whatever comes and acknowledges when it is told to."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.is_closed = False

    async def accept(self) -> None: ...

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send_bytes(self, content: bytes) -> None:
        self.received += content

    async def close(self) -> None:
        self.is_closed = True

    def say(self, **note: int) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(note)})


class Written:
    def __init__(self) -> None:
        self.content = bytearray()
        self.has_ended = False

    def write(self, data: bytes) -> None:
        self.content += data

    def write_eof(self) -> None:
        self.has_ended = True

    async def drain(self) -> None: ...

    def close(self) -> None: ...


def start(browser: Browser, written: Written, **options: Any) -> asyncio.Task[None]:
    reader = asyncio.StreamReader(limit=len(CONTENT) * 2)
    reader.feed_data(CONTENT)
    reader.feed_eof()
    return asyncio.create_task(pump(cast("Any", browser), reader, written, **options))


async def settle(browser: Browser) -> int:
    """The bytes received once no more come by themselves."""
    before = -1
    while before != len(browser.received):
        before = len(browser.received)
        for _ in range(20):
            await asyncio.sleep(0)
    return before


async def test_what_is_not_acknowledged_is_never_more_than_the_window() -> None:
    browser, window = Browser(), 200_000
    task = start(browser, Written(), window=window)
    acknowledged = 0
    while not task.done():
        arrived = await settle(browser)
        assert arrived - acknowledged <= window
        step = arrived - acknowledged
        acknowledged = arrived
        browser.say(acknowledged=step)
        await settle(browser)
    await task
    assert bytes(browser.received) == CONTENT
    assert browser.is_closed


async def test_a_hundred_megabytes_lose_nothing() -> None:
    """However slow the page: it deals with one message at a time, and says so."""
    count, chunk = 1600, bytes(range(256)) * 256

    class Flood:
        left = count

        async def read(self, most: int) -> bytes:
            self.left -= 1
            return chunk[:most] if self.left >= 0 else b""

    class Page(Browser):
        total, behind, most_behind = 0, 0, 0
        digest = hashlib.sha256()

        async def send_bytes(self, content: bytes) -> None:
            self.total += len(content)
            self.behind += len(content)
            self.most_behind = max(self.most_behind, self.behind)
            self.digest.update(content)
            if self.behind >= len(chunk) * 8:
                self.say(acknowledged=self.behind)
                self.behind = 0

    page = Page()
    await pump(cast("Any", page), Flood(), Written(), window=len(chunk) * 16)
    assert page.total == count * len(chunk) > 100_000_000
    assert page.digest.digest() == hashlib.sha256(chunk * count).digest()
    assert page.most_behind <= len(chunk) * 16


async def test_without_a_window_nothing_is_waited_for() -> None:
    browser = Browser()
    await start(browser, Written())
    assert bytes(browser.received) == CONTENT


async def test_text_is_about_the_stream_and_binary_is_the_stream() -> None:
    browser, written, sizes = Browser(), Written(), list[tuple[int, int]]()
    task = start(browser, written, window=1, resize=lambda columns, rows: sizes.append((columns, rows)))
    browser.say(columns=120, rows=40)
    browser.inbox.put_nowait({"type": "websocket.receive", "bytes": b"ls\r"})
    browser.inbox.put_nowait({"type": "websocket.receive", "text": ""})
    browser.inbox.put_nowait({"type": "websocket.disconnect"})
    await task
    assert (bytes(written.content), written.has_ended, sizes) == (b"ls\r", True, [(120, 40)])


async def test_nobody_gets_more_than_the_window_by_acknowledging_what_was_not_sent() -> None:
    allowance = Allowance(1000)
    allowance.give_back(1 << 40)
    assert await allowance.take() == 1000
    assert await Allowance(0).take() == CHUNK_BYTES


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        '{"acknowledged": -1}',
        '{"acknowledged": 1e99}',
        '{"rows": 0}',
        '{"columns": 1001}',
        '{"x": 1}',
    ],
)
def test_a_note_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        heed(text, Allowance(1), None)
