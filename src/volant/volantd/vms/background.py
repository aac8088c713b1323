# SPDX-License-Identifier: Apache-2.0
"""Work that nobody waits for, held on to until it is done: asyncio itself keeps no task alive."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from volant.volantd.request_context import outside_of_requests
from volant.volantd.tasks import end_tasks

# What is cut off here may have to be undone first: an interrupted start kills its machine.
PATIENCE_SECONDS = 5.0


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = outside_of_requests(asyncio.create_task, work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait_idle(self) -> None:
        """Until nothing is left to be done, what begins meanwhile included."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def cancel_all(self) -> None:
        await end_tasks(list(self._tasks), PATIENCE_SECONDS)
