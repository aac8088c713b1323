# SPDX-License-Identifier: Apache-2.0
"""Ending tasks for sure: asyncio's `cancel` may be swallowed by what a task waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

PATIENCE_SECONDS = 0.5
_Result = TypeVar("_Result")


async def finish_in_thread(work: Callable[[], _Result]) -> _Result:
    """`asyncio.to_thread` that ends when the thread has done its work, cancelled or not: what follows may undo it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Cancel tasks until they have ended, and wait for that; what they raised is theirs. Never the task that calls.

    Again each time the patience is over: a handshake that fails in the very moment it is cancelled in swallows that
    (asyncio.wait_for of Python 3.11 does), and whoever gathered its task would wait for ever.
    """
    current = asyncio.current_task()
    others = {task for task in tasks if task is not current}
    for task in others:
        # Also where whoever waits here is cancelled itself.
        task.add_done_callback(_look_at)
    left = {task for task in others if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=patience_seconds)


def _look_at(task: asyncio.Task[Any]) -> None:
    """asyncio reports what nobody has looked at."""
    if not task.cancelled():
        task.exception()
