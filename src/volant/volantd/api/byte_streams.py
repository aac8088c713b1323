# SPDX-License-Identifier: Apache-2.0
"""Bytes over a WebSocket: binary messages are the stream's, text messages are about it.

A client's text is empty at its end-of-file, or JSON with `acknowledged` (a number of bytes that it has dealt with) or
`columns` and `rows` (a terminal's new size). The daemon's end is the close.

Browsers take whatever arrives, whether or not the page keeps up: a client that names a `window` is sent at most that
many bytes which it has not acknowledged yet. What is behind waits in the guest, as with any slow reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocket, WebSocketDisconnect

from volant.volantd.guest.connection import ByteReader, ByteWriter
from volant.volantd.tasks import end_tasks

CHUNK_BYTES = 1 << 16
MOST_WINDOW_BYTES = 1 << 26

Window = Annotated[
    int, Query(ge=0, le=MOST_WINDOW_BYTES, description="bytes sent without acknowledgement; 0: any number")
]
TerminalSize = Annotated[int, Field(ge=1, le=1000)]


class Note(BaseModel):
    """One text message of a client."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    acknowledged: int = Field(0, ge=0, le=1 << 53)
    columns: TerminalSize | None = None
    rows: TerminalSize | None = None


class Allowance:
    """How many more bytes may be sent. Without a window: any number."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._free = window
        self._changed = asyncio.Event()

    async def take(self) -> int:
        """Wait until something may be sent; returns the most that one message may hold."""
        if not self._window:
            return CHUNK_BYTES
        while self._free <= 0:
            self._changed.clear()
            await self._changed.wait()
        return min(self._free, CHUNK_BYTES)

    def use(self, count: int) -> None:
        self._free -= count

    def give_back(self, count: int) -> None:
        self._free = min(self._window, self._free + count)
        self._changed.set()


async def pump(
    websocket: WebSocket,
    reader: ByteReader,
    writer: ByteWriter,
    *,
    window: int = 0,
    resize: Callable[[int, int], None] | None = None,
) -> None:
    """Carry bytes both ways until the far side ends or the client goes."""
    await websocket.accept()
    allowance = Allowance(window)

    async def send_in() -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            if content := message.get("bytes"):
                writer.write(content)
                await writer.drain()
            elif message.get("text") == "":
                writer.write_eof()
            elif text := message.get("text"):
                heed(text, allowance, resize)

    async def send_out() -> None:
        while content := await reader.read(await allowance.take()):
            await websocket.send_bytes(content)
            allowance.use(len(content))

    tasks = [asyncio.create_task(send_in()), asyncio.create_task(send_out())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close()


def heed(text: str, allowance: Allowance, resize: Callable[[int, int], None] | None) -> None:
    """Do what a note says; pydantic's ValidationError, which ends the stream, for one that cannot be read."""
    note = Note.model_validate_json(text)
    allowance.give_back(note.acknowledged)
    if resize is not None and note.columns and note.rows:
        resize(note.columns, note.rows)
