# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from volant.volantd.tasks import end_tasks, finish_in_thread


async def test_a_task_that_swallows_its_cancelling_ends_all_the_same() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    async def broken() -> None:
        raise RuntimeError("its own")

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(broken())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks(tasks, patience_seconds=0.01), 30)
    assert swallowed == 2 and tasks[0].cancelled()


async def test_a_task_may_end_the_others_among_which_it_is_itself() -> None:
    tasks: list[asyncio.Task[None]] = []
    ended: list[str] = []

    async def end_all() -> None:
        await end_tasks(tasks)
        ended.append("others")

    tasks += [asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(end_all())]
    with contextlib.suppress(asyncio.CancelledError):
        await tasks[1]
    assert ended == ["others"] and tasks[0].cancelled()


async def test_a_thread_that_is_no_longer_wanted_is_waited_for() -> None:
    entered, free, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        free.wait(10)
        done.set()

    task = asyncio.create_task(finish_in_thread(work))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
    assert await finish_in_thread(lambda: 3) == 3
