# SPDX-License-Identifier: Apache-2.0
"""VMs that nobody uses are suspended after the time that was asked for, in `watch_idle`.

Use is a byte through a published port, a session (SSH, exec, a forwarded port, the console, the API's proxy) and, since
a workload may work without talking, more than a share of one processor on average of that time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from volant.errors import NotFound, VolantError
from volant.volantd.hypervisors.host_process import read_cpu_seconds
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import VmState
from volant.volantd.vms.suspending import suspend_vm
from volant.volantd.vms.update import SLEEP

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# What an emulated guest uses that does nothing but look after itself stays below.
BUSY_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing was seen since then, when its process had used so much."""

    since: float
    cpu_seconds: float


class IdleWatch:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._quiet: dict[str, Quiet] = {}

    async def look(self, now: float) -> None:
        """At each VM that runs and is to sleep when it is idle."""
        records = self._fleet.domain.registry.list_sleepers()
        self._quiet = {record.id: self._quiet[record.id] for record in records if record.id in self._quiet}
        for record in records:
            vm = self._fleet.find(record.id)
            if SLEEP in record.pending or vm.lock.locked() or not self._is_idle(vm, record, now):
                continue
            del self._quiet[record.id]
            try:
                await self._suspend(vm)
            except NotFound:
                pass  # deleted meanwhile
            except VolantError as error:
                logger.warning("VM %s is idle: %s", record.name, error.what)

    def _is_idle(self, vm: RunningVm, record: VmRecord, now: float) -> bool:
        quiet = self._quiet.get(record.id)
        cpu_seconds = read_cpu_seconds(record.process.pid) if record.process else 0.0
        seconds = record.definition.suspend_when_idle_seconds
        if quiet is None or vm.is_used_since(quiet.since):
            self._quiet[record.id] = Quiet(now, cpu_seconds)
            return False
        if now - quiet.since < seconds:
            return False
        if cpu_seconds - quiet.cpu_seconds > BUSY_SHARE * (now - quiet.since):
            self._quiet[record.id] = Quiet(now, cpu_seconds)
            return False
        return True

    async def _suspend(self, vm: RunningVm) -> None:
        began = asyncio.get_running_loop().time()
        async with vm.lock:
            seconds = vm.record.definition.suspend_when_idle_seconds
            if vm.record.state is VmState.RUNNING and not vm.is_used_since(began):
                hypervisor = self._fleet.domain.find_hypervisor(vm.record.hypervisor)
                await suspend_vm(vm, hypervisor, reason=f"idle for {seconds} s")


async def watch_idle(fleet: Fleet) -> None:
    watch = IdleWatch(fleet)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await watch.look(asyncio.get_running_loop().time())
