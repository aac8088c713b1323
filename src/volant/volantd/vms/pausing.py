# SPDX-License-Identifier: Apache-2.0
"""A VM's processors stand still and go on. The row comes first on the way in and last on the way out: a daemon that was
killed in between finds a VM that was to be paused, and pauses it."""

from __future__ import annotations

from volant.errors import Conflict, WrongState
from volant.volantd.hypervisors.base import Capabilities, MachineState
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import VmState


async def pause_vm(vm: RunningVm, capabilities: Capabilities) -> VmRecord:
    """Called with the VM's lock held."""
    before = vm.record
    if not capabilities.pause:
        raise Conflict(f"cannot pause VM {before.name}: {before.hypervisor} cannot stop a machine")
    record = vm.move("pause", VmState.PAUSED)
    try:
        assert vm.monitor is not None
        await vm.monitor.machine.pause()
    except BaseException:
        if vm.record.state is VmState.PAUSED:
            vm.move("unpause", VmState.RUNNING)
        raise
    return record


async def unpause_vm(vm: RunningVm) -> VmRecord:
    """Called with the VM's lock held."""
    record = vm.record
    if record.state is not VmState.PAUSED:
        raise WrongState(f"cannot unpause VM {record.name}: it is {record.state.value}")
    assert vm.monitor is not None
    if vm.monitor.machine.state is MachineState.PAUSED:
        await vm.monitor.machine.resume()
    return vm.move("unpause", VmState.RUNNING)
