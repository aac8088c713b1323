# SPDX-License-Identifier: Apache-2.0
"""A daemon's connection to the carrier: what is asked gets its own answer, in whatever order they come."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

from volant.errors import Conflict, InvalidInput, NotPermitted, ToolFailed, VolantError
from volant.volantd.network.carrier.service import MESSAGE_LIMIT_BYTES
from volant.volantd.tasks import end_tasks

_KINDS = {kind.code: kind for kind in (Conflict, InvalidInput, NotPermitted)}
Message = dict[str, Any]


class Link:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_end: Callable[[], None]
    ) -> None:
        self.is_open = True
        self._reader, self._writer, self._on_end = reader, writer, on_end
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._reading = asyncio.create_task(self._read())

    @property
    def is_busy(self) -> bool:
        return bool(self._asked)

    async def ask(self, message: Message) -> None:
        """ConnectionError where it ends before the answer; the errors of what was asked for."""
        if not self.is_open:
            raise ConnectionResetError("the carrier has ended")
        number = next(self._numbers)
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({**message, "number": number}).encode() + b"\n")
        try:
            await answered
        finally:
            del self._asked[number]

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                answer = json.loads(line)
                answered = self._asked.get(answer["number"])
                if answered is None or answered.done():
                    continue
                if "error" in answer:
                    answered.set_exception(_make_error(*answer["error"]))
                else:
                    answered.set_result(None)
        except (ConnectionError, ValueError):
            pass
        finally:
            self.is_open = False
            self._writer.close()
            for answered in self._asked.values():
                if not answered.done():
                    answered.set_exception(ConnectionResetError("the carrier has ended"))
            self._on_end()

    async def close(self) -> None:
        self._on_end = lambda: None
        await end_tasks([self._reading])


def _make_error(code: str, what: str, details: list[str], resolution: str) -> VolantError:
    return _KINDS.get(code, ToolFailed)(what, details=details, resolution=resolution)


async def open_link(place: str, on_end: Callable[[], None]) -> Link | None:
    """None where nobody listens there."""
    try:
        reader, writer = await asyncio.open_unix_connection(place, limit=MESSAGE_LIMIT_BYTES)
    except (ConnectionError, FileNotFoundError):
        return None
    return Link(reader, writer, on_end)
