# SPDX-License-Identifier: Apache-2.0
"""A workload that is up in a template: a guest that is told of no VM boots to where it is healthy, and is held there.

What wakes of it is a copy, as a fork is (`vms/waking.py`): still until it has become another machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from volant.contract.guest_config import Control, GuestConfig
from volant.errors import GuestFailed, Unreachable
from volant.volantd.guest.connection import open_connection
from volant.volantd.guest.control import ControlClient, open_control
from volant.volantd.hypervisors.base import Machine, MachineState

# A workload may make its data first.
HEALTHY_SECONDS = 300.0
RETRY_SECONDS = 0.2
# What agent and workload leave until after the start is done then, once and not in each copy.
SETTLE_SECONDS = 2.0
# What a guest is called that is no VM yet.
NAME = "template"
NO_CONTROL = Control(host_key="", authorized_keys=[])


@dataclass(frozen=True, slots=True)
class Keys:
    """Ours for the agent, private, and the agent's, public. They serve for the making of one template: copies get
    others."""

    control: str
    host: str


@dataclass(frozen=True, slots=True)
class Workload:
    """`plugin` for people; `payload` is its disk, `make_disk` makes one of it that can be written. `config` is what the
    guest is told."""

    plugin: str
    payload: Path
    config: GuestConfig
    keys: Keys = field(compare=False)
    make_disk: Callable[[Path], object] = field(compare=False)

    def identify(self) -> tuple[str, ...]:
        """Equal where one is as good as the other."""
        told = self.config.model_copy(update={"control": NO_CONTROL, "unix_time_nanoseconds": 0})
        return self.payload.name, told.model_dump_json()


@asynccontextmanager
async def held_workload(machine: Machine, keys: Keys) -> AsyncIterator[None]:
    """Entered once the workload is healthy and all of the guest but its agent stands still. GuestFailed where it does
    not become healthy, or nothing asks it."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(HEALTHY_SECONDS):
                control = await _reach(machine, keys, stack)
                await _wait_healthy(control)
        except TimeoutError:
            raise GuestFailed(f"its workload is not healthy after {HEALTHY_SECONDS:g} s") from None
        await asyncio.sleep(SETTLE_SECONDS)
        await control.freeze(disks=False)
        yield


async def _reach(machine: Machine, keys: Keys, stack: AsyncExitStack) -> ControlClient:
    """The agent of a guest that boots: its port may close once before it serves."""
    while True:
        try:
            stream = await machine.open_control()
            connection = await stack.enter_async_context(
                open_connection(stream, keys.control, keys.host, timeout_seconds=HEALTHY_SECONDS)
            )
            return await stack.enter_async_context(open_control(connection))
        except (Unreachable, OSError):
            if machine.state is MachineState.ENDED:
                raise
            await asyncio.sleep(RETRY_SECONDS)


async def _wait_healthy(control: ControlClient) -> None:
    async for state in control.follow_state():
        if state.health == "healthy":
            return
        if state.phase == "failed" or state.result is not None:
            raise GuestFailed(f"its workload is not up: {state.health_reason or state.phase}")
        if state.phase == "running" and state.health == "unknown":
            raise GuestFailed("nothing says when its workload is up: it has no health check")
    raise Unreachable("its agent has ended the connection")
