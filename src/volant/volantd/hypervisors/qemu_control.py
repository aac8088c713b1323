# SPDX-License-Identifier: Apache-2.0
"""The connection to one QEMU's control (QMP, https://www.qemu.org/docs/master/interop/qmp-spec.html).

QMP serves one client, which is this daemon; the VM does not need it, so a lost connection is made again and no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate

from volant.errors import ToolFailed

# What fails is an exception here. What the library writes of it, too, tells people to report a fault of QEMU's.
_silent = logging.getLogger("volant.qmp")
_silent.setLevel(logging.CRITICAL + 1)

TIMEOUT_SECONDS = 10.0
LAST_EVENT_SECONDS = 0.5


class QemuControl:
    def __init__(self, path: Path, name: str) -> None:
        """`name`: the VM's, for errors."""
        self._path = path
        self._name = name
        self._client: QMPClient | None = None
        self._events = EventListener()

    @property
    def is_connected(self) -> bool:
        return self._client is not None and self._client.runstate is Runstate.RUNNING

    async def try_connect(self, timeout_seconds: float = TIMEOUT_SECONDS) -> Mapping[str, Any] | None:
        """What query-status says, over a new connection; None where nobody answers."""
        if not self._path.exists():
            return None
        client = QMPClient(self._name)
        client.logger = _silent
        self._events = EventListener()
        client.register_listener(self._events)
        try:
            # A QEMU that is stopped, or busy with another client, accepts and then says nothing.
            async with asyncio.timeout(timeout_seconds):
                await client.connect(str(self._path))
                status = await client.execute("query-status")
        except (QMPError, OSError, EOFError):
            with suppress(QMPError, OSError, EOFError):
                await client.disconnect()
            return None
        self._client = client
        return status if isinstance(status, dict) else {}

    async def disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(QMPError, OSError, EOFError):
                await client.disconnect()

    @contextmanager
    def reached(self, verb: str) -> Iterator[QMPClient]:
        """The connection; its failures become ours."""
        if self._client is None:
            raise ToolFailed(f"cannot {verb} {self._name}: there is no connection to its QEMU")
        try:
            yield self._client
        except (QMPError, OSError, EOFError) as error:
            raise ToolFailed(f"cannot {verb} {self._name}: {error}") from error

    async def execute(self, command: str) -> object:
        with self.reached(command) as client:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await client.execute(command)

    async def wait_event(self) -> Mapping[str, Any]:
        return await self._events.get()

    async def read_last_events(self) -> list[Mapping[str, Any]]:
        """Of a process that has ended: its last event was sent before, but this side may not have read it yet."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LAST_EVENT_SECONDS
        while self.is_connected and loop.time() < deadline:  # noqa: ASYNC110  # the library's own state
            await asyncio.sleep(0.01)
        events: list[Mapping[str, Any]] = []
        while not self._events.empty():
            events.append(await self._events.get())
        return events
