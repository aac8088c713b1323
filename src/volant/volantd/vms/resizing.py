# SPDX-License-Identifier: Apache-2.0
"""CPUs and memory of a VM that runs: what was changed of them is given at once, where its hypervisor can.

The row says first that they wait for the next start. What the machine has taken waits no more; a daemon that is killed
in between leaves a VM that is said to want a start which it no longer needs.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from volant.errors import VolantError
from volant.volantd.hypervisors.base import Capabilities
from volant.volantd.hypervisors.groups import change_limits
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import VmState

logger = logging.getLogger(__name__)

RESIZABLE = ("vcpu", "memory_mb")
FEATURE = "resources-online"
AGENT_SECONDS = 5.0


async def resize_vm(vm: RunningVm, capabilities: Capabilities) -> VmRecord:
    """Called with the VM's lock held. What cannot be changed now is left for the next start, and never an error."""
    waiting = [name for name in RESIZABLE if name in vm.record.pending]
    is_resizable = capabilities.live_resize and vm.record.state is VmState.RUNNING
    if not waiting or not is_resizable or vm.record.has_own_system:
        return vm.record
    try:
        guest = await vm.connect(AGENT_SECONDS)
        if FEATURE in guest.control.hello.features:
            for name in waiting:
                await _resize(vm, name)
            await guest.control.take_resources()
    except VolantError as error:
        logger.info("VM %s: its guest has not taken what it was given: %s", vm.record.name, error.what)
    return vm.record


async def _resize(vm: RunningVm, name: str) -> None:
    record = vm.record
    assert vm.monitor is not None and record.spec is not None
    machine = vm.monitor.machine
    spec = replace(record.spec, **{name: getattr(record.definition.resources, name)})
    if spec != record.spec:
        # The VM's own limit would end it on the way.
        await asyncio.to_thread(change_limits, spec, machine.identity.pid)
        try:
            await machine.resize(spec)
        except VolantError as error:
            await asyncio.to_thread(change_limits, record.spec, machine.identity.pid)
            logger.info("VM %s has that from its next start: %s", record.name, error.what)
            return
    vm.change(spec=spec, pending=[other for other in record.pending if other != name])
