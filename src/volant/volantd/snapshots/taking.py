# SPDX-License-Identifier: Apache-2.0
"""A snapshot of a VM, in `take_snapshot`: everything held still, memory and disk of one instant, and on it goes."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from pathlib import Path

from volant.errors import Conflict, VolantError, WrongState
from volant.volantd.clock import now
from volant.volantd.hypervisors.base import Hypervisor, Machine, MemoryImage
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.disk_layers import PreparedLayer, held_layer, name_new_layer, prepare_layer
from volant.volantd.vms.holding import held
from volant.volantd.vms.monitor import Guest
from volant.volantd.vms.record import VmRecord, make_wake_source
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS, VmState

logger = logging.getLogger(__name__)


async def take_snapshot(
    vm: RunningVm,
    store: SnapshotStore,
    hypervisor: Hypervisor,
    name: str,
    request_key: str = "",
    *,
    disks: bool = True,
) -> Snapshot:
    """Of a VM that runs with its memory, of one that does not of its disk alone. `disks`: file systems are whole
    without the memory, too. Called with the VM's lock held."""
    record = vm.record
    store.check_free(name)
    if record.definition.volumes and record.state in WITH_PROCESS:
        raise Conflict(
            f"cannot take a snapshot of VM {record.name} while it runs: its memory would not match its volumes",
            resolution="stop it first, or copy its volumes as it runs: volar volumes backup",
        )
    if record.state is not VmState.RUNNING and record.state in WITH_PROCESS:
        raise WrongState(f"cannot take a snapshot of VM {record.name}: it is {record.state.value}")
    if record.state is VmState.RUNNING and not hypervisor.capabilities.snapshot:
        raise Conflict(
            f"cannot take a snapshot of VM {record.name}: {hypervisor.kind} cannot keep a machine's memory",
            resolution=f"stop it first for one of its disk: volar vms stop {record.name}",
        )
    with store.draft() as (identity, hidden), ExitStack() as stack:
        wake, layer, pause_ms = None, None, 0.0
        if record.state is VmState.RUNNING:
            guest = await connect(vm, record)
            copy = None
            if not hypervisor.capabilities.live_layers and vm.files.disk.exists():
                copy = name_new_layer(store.layers)
                stack.enter_context(held_layer(copy))
            image, layer, pause_ms = await _hold_and_save(vm, guest, hidden, store, copy, disks=disks)
            assert record.spec is not None
            support = await hypervisor.find_support(record.spec.architecture, kernel=record.spec.kernel)
            traits = hypervisor.find_traits(record.spec)
            place = store.find_place(identity)
            features = guest.control.hello.features
            wake = make_wake_source(record, record.spec, image, place, support.version, traits, features)
        elif vm.files.disk.exists():
            prepared = await asyncio.to_thread(prepare_layer, vm.files.disk, store.layers)
            prepared.put_in_place()
            layer = prepared.layer
        snapshot = Snapshot(
            id=identity, name=name, vm_id=record.id, vm_name=record.name, plugin_name=record.plugin_name,
            plugin_version=record.plugin_version, definition=record.definition, layer=layer, wake=wake,
            pause_ms=pause_ms, created_at=now(), request_key=request_key,
        )  # fmt: skip
        store.publish(snapshot, hidden)
    vm.tell("snapshot", record, snapshot=name, pause_ms=round(pause_ms))
    return snapshot


async def connect(vm: RunningVm, record: VmRecord) -> Guest:
    guest = await vm.connect()
    hello = guest.control.hello
    if "snapshot" not in hello.features:
        raise Conflict(
            f"cannot take a snapshot of VM {record.name}: its agent {hello.agent_version} cannot be held still",
            resolution=f"restart it, so that it boots with this host's agent (volar vms restart {record.name})",
        )
    return guest


async def _hold_and_save(
    vm: RunningVm, guest: Guest, folder: Path, store: SnapshotStore, copy: Path | None, *, disks: bool
) -> tuple[MemoryImage, Path | None, float]:
    assert vm.monitor is not None
    machine = vm.monitor.machine
    prepared: PreparedLayer | None = None
    if vm.files.disk.exists() and copy is None:
        prepared = await asyncio.to_thread(prepare_layer, vm.files.disk, store.layers)
    try:
        # What is copied has to be in the file: whatever the hypervisor keeps of a disk is written for its guest's sync.
        async with held(vm, guest, disks=disks or copy is not None):
            began = time.monotonic()
            await machine.pause()
            try:
                image = await _save(machine, folder, prepared, copy)
            finally:
                await asyncio.shield(machine.resume())
            pause_ms = 1000 * (time.monotonic() - began)
    except BaseException:
        if prepared is not None:
            await asyncio.shield(_undo(machine, prepared))
        raise
    return image, prepared.layer if prepared else copy, pause_ms


async def _save(
    machine: Machine, folder: Path, prepared: PreparedLayer | None, copy: Path | None
) -> MemoryImage:
    """Of a paused machine. The disk comes last: whatever fails before it has changed nothing. `copy`: where its disk is
    copied to, of a machine that cannot be given a new layer."""
    image = await machine.save_memory(folder)
    if copy is not None:
        await machine.copy_disk(0, copy, _nothing)
    if prepared is not None:
        await machine.layer_disk(0, prepared.overlay, prepared.name)
        prepared.put_in_place()
    return image


async def _nothing() -> None:
    pass


async def _undo(machine: Machine, prepared: PreparedLayer) -> None:
    """After a failure: keep the overlay where the machine writes to it already."""
    try:
        if await machine.find_layer(0) == prepared.name:
            if prepared.overlay.exists():
                prepared.put_in_place()
            return
    except VolantError as error:
        logger.warning("cannot ask a machine for its disk: %s", error.what)
        return  # settled when the VM is started or adopted
    prepared.give_up()
