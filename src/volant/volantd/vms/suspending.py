# SPDX-License-Identifier: Apache-2.0
"""A VM's memory goes to the disk and its process ends, in `suspend_vm`; `RunningVm.start` is the way back.

The guest is held still and has written everything first: where the memory cannot be used some day, the VM boots from
its disk and has lost nothing. `kept_memory` says at which instant the VM is suspended.
"""

from __future__ import annotations

import asyncio
import time

from volant.errors import Conflict, WrongState
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.vms.holding import mark_held, unmark_held, wait_gone_on
from volant.volantd.vms.kept_memory import discard_memory, draft_memory, find_place, keep_memory
from volant.volantd.vms.monitor import Guest
from volant.volantd.vms.record import VmRecord, make_wake_source
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import VmState

LET_GO_SECONDS = 10.0
END_SECONDS = 10.0


async def suspend_vm(vm: RunningVm, hypervisor: Hypervisor, *, reason: str = "") -> VmRecord:
    """Called with the VM's lock held. Whatever fails leaves the VM running."""
    record = vm.record
    if record.state is not VmState.RUNNING:
        raise WrongState(
            f"cannot suspend VM {record.name}: it is {record.state.value}",
            resolution=f"look at it with 'volar vms get {record.name}'",
        )
    if not (hypervisor.capabilities.snapshot and hypervisor.capabilities.restore):
        raise Conflict(f"cannot suspend VM {record.name}: {hypervisor.kind} cannot keep a machine's memory")
    guest = await vm.connect()
    if "wake" not in guest.control.hello.features:
        raise Conflict(
            f"cannot suspend VM {record.name}: its agent {guest.control.hello.agent_version} cannot be woken",
            resolution=f"restart it, so that it boots with this host's agent (volar vms restart {record.name})",
        )
    assert vm.monitor is not None
    began = time.monotonic()
    await wait_gone_on(vm)
    mark_held(vm.files.folder)
    try:
        await guest.control.freeze(disks=False)
        await vm.monitor.machine.pause()
        await _keep(vm, record, guest, hypervisor)
        record = vm.move("suspend", VmState.SUSPENDED, reason, wanted=False)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(discard_memory, vm.files.folder))
        await asyncio.shield(vm.let_go(LET_GO_SECONDS))
        raise
    unmark_held(vm.files.folder)
    await asyncio.shield(end_process(vm))
    vm.tell("suspended", record, seconds=round(time.monotonic() - began, 3))
    return vm.record


async def _keep(vm: RunningVm, record: VmRecord, guest: Guest, hypervisor: Hypervisor) -> None:
    assert record.spec is not None and vm.monitor is not None
    folder = vm.files.folder
    support = await hypervisor.find_support(record.spec.architecture, kernel=record.spec.kernel)
    traits = hypervisor.find_traits(record.spec)
    with draft_memory(folder) as hidden:
        image = await vm.monitor.machine.save_memory(hidden)
        source = make_wake_source(
            record,
            record.spec,
            image,
            find_place(folder),
            support.version,
            traits,
            guest.control.hello.features,
        )
        await asyncio.to_thread(keep_memory, hidden, folder, source)


async def end_process(vm: RunningVm) -> None:
    """Of a VM whose memory is kept: it has nothing to lose any more."""
    monitor = vm.monitor
    if monitor is not None:
        await monitor.machine.kill()
        async with asyncio.timeout(END_SECONDS):
            await monitor.wait_ended()


async def drop_memory(vm: RunningVm, *, force: bool) -> VmRecord:
    """Stop a suspended VM: nobody in it can be asked, and what it had in memory is thrown away."""
    record = vm.record
    if not force:
        raise WrongState(
            f"cannot stop VM {record.name} in order: it is suspended",
            resolution=f"volar vms resume {record.name} first, or discard its memory: --force",
        )
    await asyncio.to_thread(discard_memory, vm.files.folder)
    await vm.take_down(record)
    return vm.move("stop", VmState.STOPPED, process=None, wanted=False)
