# SPDX-License-Identifier: Apache-2.0
"""A VM becomes again what it was at a snapshot, in `finish_restore`: from the moment that its row says so there is no
way back, and a daemon that was killed in between begins again from the beginning."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from volant.volantd.vms.disk_layers import held_layer, name_overlay
from volant.volantd.vms.disks import make_overlay
from volant.volantd.vms.kept_memory import discard_memory
from volant.volantd.vms.record import RestorePoint, VmDefinition, VmRecord
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS, VmState

GOES_BACK = (
    "resources",
    "disk_size_bytes",
    "env",
    "entrypoint",
    "command",
    "kernel",
    "kernel_arguments",
)
DRAFT = ".root.qcow2.restored"


async def restore_vm(vm: RunningVm, point: RestorePoint, then: VmDefinition) -> VmRecord:
    """Called with the VM's lock held. `then`: what it was; its name, ports, labels and restart policy stay."""
    was = {name: getattr(then, name) for name in GOES_BACK}
    now = vm.record.definition.model_copy(update={**was, "restores_to": point})
    vm.change("restore", definition=now, pending=())
    return await finish_restore(vm)


async def finish_restore(vm: RunningVm) -> VmRecord:
    """Of a VM whose row says what it is to be. Called with its lock held."""
    record = vm.record
    point = record.definition.restores_to
    assert point is not None
    if vm.monitor is not None:
        vm.monitor.kill_reason = "restored from a snapshot"
        if record.state in WITH_PROCESS and record.state is not VmState.STOPPING:
            vm.move("restore", VmState.STOPPING)
        await vm.monitor.machine.kill()
        await vm.monitor.wait_ended()
    elif record.state in WITH_PROCESS or record.state is VmState.SUSPENDED:
        vm.move("restore", VmState.STOPPED, process=None, wanted=False)
    await asyncio.to_thread(discard_memory, vm.files.folder)
    if point.layer is not None:
        await asyncio.to_thread(_replace_disk, vm.files.disk, point.layer)
    vm.tell("restored", record, snapshot=point.name)
    if point.runs:
        return await vm.start()
    return vm.change(definition=record.definition.model_copy(update={"restores_to": None}))


def _replace_disk(disk: Path, layer: Path) -> None:
    draft = disk.with_name(DRAFT)
    draft.unlink(missing_ok=True)
    with held_layer(layer):
        make_overlay(draft, layer, "qcow2", None)
        os.replace(draft, disk)
    name_overlay(disk).unlink(missing_ok=True)
