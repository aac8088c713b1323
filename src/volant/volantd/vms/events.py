# SPDX-License-Identifier: Apache-2.0
"""What happened to VMs, numbered: kept in the database (bounded), told to whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from volant.volantd.clock import now
from volant.volantd.database import Database

KEPT_EVENTS = 10_000
KEPT_EVENTS_A_VM = 1_000
QUEUED_EVENTS = 1_000
REPLAYED_AT_ONCE = 500
GAP = "gap"


@dataclass(frozen=True, slots=True)
class Event:
    """`id` counts up; `data` is plain JSON."""

    id: int
    time: str
    kind: str
    vm: str
    data: dict[str, Any]


class EventLog:
    """Every change of a VM goes through `add`, so waiting for a change is listening here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[asyncio.Queue[Event]] = set()

    def add(self, kind: str, vm: str, **data: Any) -> Event:
        time = now()
        # Events tell of what is in the rows for good.
        cursor = self._database.execute_soon(
            "INSERT INTO events (time, kind, vm, data) VALUES (?, ?, ?, ?)",
            (time, kind, vm, json.dumps(data)),
        )
        identity = cursor.lastrowid or 0
        if identity % 500 == 0:
            self._database.execute_soon("DELETE FROM events WHERE id <= ?", (identity - KEPT_EVENTS,))
        if identity % 20 == 0:
            # One that makes much ado leaves the others their history.
            self._database.execute_soon(
                "DELETE FROM events WHERE vm = ? AND id <="
                " (SELECT id FROM events WHERE vm = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (vm, vm, KEPT_EVENTS_A_VM),
            )
        event = Event(id=identity, time=time, kind=kind, vm=vm, data=data)
        for queue in self._listeners:
            # A listener that reads nothing loses its oldest events rather than the daemon its memory.
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)
        return event

    @property
    def last_id(self) -> int:
        """The newest event's number; 0 before the first."""
        row = self._database.fetch_one("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return 0 if row is None else int(row["seq"])

    def read_after(self, identity: int, limit: int = KEPT_EVENTS) -> list[Event]:
        rows = self._database.fetch_all(
            "SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", (identity, limit)
        )
        return [
            Event(
                id=row["id"], time=row["time"], kind=row["kind"], vm=row["vm"], data=_read_data(row["data"])
            )
            for row in rows
        ]

    async def replay(self, after: int | None) -> AsyncIterator[Event]:
        """Those kept since that number; before them a "gap" where some are kept no longer. None: all that are kept.

        A gap's number is that after which nothing else is missing. Numbers that nobody has given yet belong to a
        database that is gone: what there is now is told as a gap, too, and not replayed.
        """
        if after is not None and (gap := self._find_gap(after)) is not None:
            yield gap
            after = gap.id
        after = after or 0
        while page := self.read_after(after, REPLAYED_AT_ONCE):
            for event in page:
                yield event
            after = page[-1].id
            await asyncio.sleep(0)

    def _find_gap(self, after: int) -> Event | None:
        last = self.last_id
        if after > last:
            return Event(last, now(), GAP, "", {"after": after, "missing": None})
        row = self._database.fetch_one("SELECT count(*) AS count FROM events WHERE id > ?", (after,))
        missing = last - after - (0 if row is None else int(row["count"]))
        return Event(after, now(), GAP, "", {"after": after, "missing": missing}) if missing else None

    @contextlib.contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue(QUEUED_EVENTS)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    async def follow(self, after: int | None = None) -> AsyncIterator[Event]:
        """Events as they come; with `after` first those that have come since that number.

        Who reads more slowly than they come gets those that were dropped from the database, or a gap.
        """
        with self.listen() as queue:
            last = self.last_id
            if after is not None:
                last = after
                async for event in self.replay(after):
                    last = event.id
                    yield event
            while True:
                event = await queue.get()
                if event.id > last + 1:
                    async for missed in self.replay(last):
                        last = missed.id
                        yield missed
                elif event.id > last:
                    last = event.id
                    yield event


def _read_data(text: str) -> dict[str, Any]:
    """What an event tells; nothing, where a damaged row says so: those behind it are told."""
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
