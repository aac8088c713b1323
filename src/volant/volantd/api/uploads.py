# SPDX-License-Identifier: Apache-2.0
"""A request's body as a file that a thread reads while it arrives; a slow reader slows the sender down."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect

from volant.errors import InvalidInput


class BodyStream(io.RawIOBase):
    """Made on the event loop; read in another thread."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no len
        if not self._rest:
            self._rest = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _next(self) -> bytes:
        try:
            async for chunk in self._chunks:
                if chunk:
                    return chunk
        except ClientDisconnect as error:
            raise InvalidInput("cannot read what is uploaded: it was cut off") from error
        return b""


def open_body(chunks: AsyncIterator[bytes]) -> io.BufferedReader:
    return io.BufferedReader(BodyStream(chunks), 1 << 20)
