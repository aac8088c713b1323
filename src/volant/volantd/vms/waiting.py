# SPDX-License-Identifier: Apache-2.0
"""Waiting until a VM is as somebody wants it, by its events."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

from volant.volantd.vms.events import EventLog
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.registry import VmRegistry
from volant.volantd.vms.states import WITH_PROCESS, VmState

Condition = Literal["running", "healthy", "stopped"]


def is_settled(record: VmRecord, condition: Condition) -> bool:
    """Whether it is so, or cannot become so without somebody's doing."""
    if record.state not in WITH_PROCESS:
        return condition == "stopped" or not record.wanted
    if record.state is VmState.PAUSED:
        return True
    if record.state is not VmState.RUNNING:
        return False
    if condition == "healthy":
        return record.guest is not None and record.guest.health == "healthy"
    return condition == "running"


async def wait_for(
    registry: VmRegistry, events: EventLog, vm_id: str, condition: Condition, timeout_seconds: float
) -> VmRecord:
    """The VM once it is settled or the time is over: its state says which. NotFound once it is deleted."""
    with events.listen() as happenings, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            while not is_settled(record := registry.get(vm_id), condition):
                while (await happenings.get()).data.get("id") != vm_id:
                    pass
            return record
    return registry.get(vm_id)
