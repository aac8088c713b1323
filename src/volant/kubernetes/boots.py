# SPDX-License-Identifier: Apache-2.0
"""How many pods' VMs boot at a time: as many as the host has processors.

A node that is given fifty pods at once would otherwise boot fifty guests beside each other, and all of them late. One
after another they are up sooner, and most wake from the template that the first of them left.
"""

from __future__ import annotations

import asyncio
import os

from volant.client import AsyncClient
from volant.contract.api_types import Vm, VmCreate
from volant.errors import VolantError

# One that takes longer holds nobody else up.
MOST_BOOT_SECONDS = 60.0


class Boots:
    def __init__(self, client: AsyncClient, most: int = 0) -> None:
        self._client = client
        self._room = asyncio.Semaphore(most or max(2, os.cpu_count() or 1))
        self._waiting: set[asyncio.Task[None]] = set()

    async def begin(self, request: VmCreate) -> Vm:
        """Make the VM when there is room. The next one's turn is when this one is up, or has ended."""
        await self._room.acquire()
        try:
            vm = await self._client.create_vm(request)
        except BaseException:
            self._room.release()
            raise
        task = asyncio.get_running_loop().create_task(self._leave_when_up(request["name"]))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return vm

    async def _leave_when_up(self, name: str) -> None:
        try:
            await self._client.wait(name, "running", MOST_BOOT_SECONDS)
        except (VolantError, OSError):
            pass
        finally:
            self._room.release()
