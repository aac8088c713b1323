# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.volantd.database import Database
from volant.volantd.vms import events
from volant.volantd.vms.events import QUEUED_EVENTS, Event, EventLog


async def test_a_follower_sees_what_was_and_what_comes_once_each(tmp_path: Path) -> None:
    log = EventLog(Database(tmp_path / "db"))
    first = log.add("created", "a")
    log.add("state", "a", status="starting")
    seen = []

    async def follow() -> None:
        async for event in log.follow(first.id):
            seen.append(event.kind)
            if event.kind == "deleted":
                return

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    log.add("health", "a", health="healthy")
    log.add("deleted", "a")
    await asyncio.wait_for(task, 10)
    assert seen == ["state", "health", "deleted"]
    assert next(event.kind for event in EventLog(Database(tmp_path / "db")).read_after(0)) == "created"


def test_a_listener_that_does_not_read_costs_no_memory(tmp_path: Path) -> None:
    log = EventLog(Database(tmp_path / "db"))
    with log.listen() as queue:
        for _ in range(QUEUED_EVENTS + 5):
            log.add("state", "a")
        assert queue.qsize() == QUEUED_EVENTS
        assert queue.get_nowait().id == 6


def test_one_vm_that_makes_much_ado_leaves_the_others_their_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEPT_EVENTS_A_VM", 50)
    log = EventLog(Database(tmp_path / "db"))
    log.add("created", "quiet")
    for _ in range(200):
        log.add("agent", "flapping")
    kept = log.read_after(0)
    assert kept[0].vm == "quiet"
    assert 50 <= len(kept) - 1 < 75


async def read_some(stream: AsyncIterator[Event], count: int) -> list[tuple[int, str]]:
    async with asyncio.timeout(10):
        found = [await anext(stream) for _ in range(count)]
    return [(event.id, event.kind) for event in found]


async def test_what_is_kept_no_longer_is_told_as_a_gap(tmp_path: Path) -> None:
    log = EventLog(Database(tmp_path / "db"))
    for _ in range(10):
        log.add("state", "a")
    log._database.execute("DELETE FROM events WHERE id IN (3, 4, 7)")
    assert await read_some(log.follow(2), 6) == [
        (2, "gap"),
        *((number, "state") for number in (5, 6, 8, 9, 10)),
    ]
    assert await read_some(log.replay(7), 3) == [(8, "state"), (9, "state"), (10, "state")]
    assert [event.data async for event in log.replay(0) if event.kind == "gap"] == [
        {"after": 0, "missing": 3}
    ]
    assert len([event async for event in log.replay(None)]) == 7
    assert [event async for event in log.replay(10)] == []


async def test_a_number_of_a_database_that_is_gone_is_a_gap_and_what_comes_is_told(tmp_path: Path) -> None:
    log = EventLog(Database(tmp_path / "db"))
    log.add("state", "a")
    stream = log.follow(5000)
    assert await read_some(stream, 1) == [(1, "gap")]
    log.add("deleted", "a")
    assert await read_some(log.follow(1), 1) == [(2, "deleted")]


async def test_who_reads_slowly_gets_what_was_dropped_from_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUEUED_EVENTS", 5)
    log = EventLog(Database(tmp_path / "db"))
    stream = log.follow(0)
    log.add("state", "a")
    seen = [(await anext(stream)).id]
    for _ in range(2):
        for _ in range(12):
            log.add("state", "a")
        seen += [number for number, _ in await read_some(stream, 12)]
    assert seen == list(range(1, 26))


def test_a_damaged_row_hides_none_behind_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    events = EventLog(database)
    for number in range(3):
        events.add("started", "vm", number=number)
    database.execute("UPDATE events SET data = 'garbage' WHERE id = 1")
    database.execute("UPDATE events SET data = '5' WHERE id = 2")
    assert [event.data for event in events.read_after(0)] == [{}, {}, {"number": 2}]
