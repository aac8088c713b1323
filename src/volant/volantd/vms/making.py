# SPDX-License-Identifier: Apache-2.0
"""VMs that have no row yet because their disks are being fetched: each name once, until somebody deletes it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from volant.errors import Conflict, StorageFull
from volant.volantd.vms.events import EventLog

KIND = "fetching"
# An event for each so many percent, and so often where that takes long.
STEP_PERCENT, FIRST_SECONDS, SLOW_SECONDS = 10, 1.0, 30.0
Tell = Callable[[int, int | None], None]


class Making:
    """`cancelled` is looked at by the threads that fetch."""

    def __init__(self, name: str, events: EventLog) -> None:
        self.name = name
        self.cancelled = threading.Event()
        self._events = events

    def check(self) -> None:
        if self.cancelled.is_set():
            raise Conflict(f"cannot create VM {self.name}: it was deleted meanwhile")

    def make_teller(self, disk: str) -> Tell:
        """To be called in any thread with the bytes that are there, and all of them where that is known."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        told_at, told_percent = began, 0

        def tell(done_bytes: int, total_bytes: int | None) -> None:
            nonlocal told_at, told_percent
            now = time.monotonic()
            percent = 100 * done_bytes // total_bytes if total_bytes else 0
            is_further = percent >= told_percent + STEP_PERCENT and now - told_at >= FIRST_SECONDS
            if is_further or now - told_at >= SLOW_SECONDS:
                told_at, told_percent = now, percent
                facts = {"disk": disk, "done_bytes": done_bytes, "total_bytes": total_bytes}
                loop.call_soon_threadsafe(partial(self._add, **facts))

        return tell

    def _add(self, **facts: object) -> None:
        try:
            self._events.add(KIND, self.name, **facts)
        except StorageFull:
            pass  # whoever fetches finds out, too


class Makings:
    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._by_name: dict[str, Making] = {}

    @contextmanager
    def hold(self, name: str) -> Iterator[Making]:
        """Conflict where one of that name is being made."""
        if name in self._by_name:
            raise Conflict(
                f"cannot create VM {name}: one of that name is being created",
                resolution=f"choose another name, or end that: volar vms delete {name}",
            )
        making = self._by_name[name] = Making(name, self._events)
        try:
            yield making
        finally:
            del self._by_name[name]

    def cancel(self, name: str) -> bool:
        """Whether one of that name was being made; it ends soon."""
        making = self._by_name.get(name)
        if making is None or making.cancelled.is_set():
            return False
        making.cancelled.set()
        return True
