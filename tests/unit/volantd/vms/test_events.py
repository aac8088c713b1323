# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from volant.volantd.database import Database
from volant.volantd.vms import events
from volant.volantd.vms.events import QUEUED_EVENTS, EventLog


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
