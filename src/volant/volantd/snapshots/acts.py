# SPDX-License-Identifier: Apache-2.0
"""What people ask of snapshots: take one, make VMs of one, and fork a VM, which is both at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from volant.errors import Conflict, InvalidInput, NotFound, ToolMissing, WrongState
from volant.volantd.boot.kernel import Kernel, host_architecture
from volant.volantd.settings import Settings
from volant.volantd.snapshots.document import SnapshotDocument
from volant.volantd.snapshots.exporting import Export, export_snapshot
from volant.volantd.snapshots.importing import Import, find_plugin
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.snapshots.taking import take_snapshot
from volant.volantd.tasks import end_tasks
from volant.volantd.vms.definition import NewVm, Origin
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.lifecycle import find_guest_kernel
from volant.volantd.vms.merging import merge_disk
from volant.volantd.vms.record import RestorePoint, VmRecord
from volant.volantd.vms.request_keys import RequestKey
from volant.volantd.vms.restoring import restore_vm
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS, VmState

# More would wait for each other.
COPIES_AT_ONCE = os.cpu_count() or 1


async def take(
    fleet: Fleet,
    store: SnapshotStore,
    vm_name: str,
    snapshot_name: str,
    key: RequestKey | None = None,
    *,
    disks: bool = True,
) -> Snapshot:
    """One snapshot, or with a key that one was made for before: that. `disks`: whole without the memory, too."""
    async with fleet.locked(vm_name) as vm:
        if key is not None and (made := store.find_made(key)) is not None:
            return made
        name = snapshot_name or f"{vm.record.name}-{secrets.token_hex(3)}"
        taken = await take_snapshot(
            vm,
            store,
            fleet.domain.find_hypervisor(vm.record.hypervisor),
            name,
            key.text_and_content if key else "",
            disks=disks,
        )
    if not taken.is_hidden:
        tidy(fleet, store, vm)
    return taken


def tidy(fleet: Fleet, store: SnapshotStore, vm: RunningVm) -> None:
    """Nobody waits for the layers of a disk to become fewer."""
    fleet.background.run(merge_disk(vm, store.sweep_layers), f"merging of the disk of {vm.id}")


async def create_vm(fleet: Fleet, snapshot: Snapshot, request: NewVm) -> VmRecord:
    """A VM of a snapshot. What the snapshot's VM was decides what this one is; another name, labels, environment and
    published ports may be asked for."""
    fixed = ("vcpu", "memory_mb", "network", "disk_size", "disk_bandwidth")
    given = [name for name in fixed if getattr(request, name) is not None]
    given += [name for name in ("kernel", "kernel_arguments") if getattr(request, name)]
    if given:
        raise InvalidInput(
            f"cannot create VM {request.name} with another {given[0]} than snapshot {snapshot.name} has",
            resolution="omit it, or create the VM from its plugin",
        )
    origin = Origin(snapshot.definition, snapshot.layer, snapshot.wake)
    return await fleet.create(replace(request, plugin=snapshot.plugin_reference, origin=origin))


async def restore(fleet: Fleet, store: SnapshotStore, vm_name: str, snapshot_name: str) -> VmRecord:
    """The VM becomes what it was. With its memory it goes on where it was; without it boots, if it ran."""
    async with fleet.locked(vm_name) as vm:
        record, snapshot = vm.record, store.get(snapshot_name)
        if snapshot.vm_id != record.id:
            raise InvalidInput(
                f"cannot restore VM {record.name} to snapshot {snapshot.name}: that is of VM {snapshot.vm_name}",
                resolution=f"create a VM from it: volar vms create NEW --from-snapshot {snapshot.name}",
            )
        runs = snapshot.wake is not None or record.state in WITH_PROCESS
        place = store.find_place(snapshot.id)
        point = RestorePoint(
            name=snapshot.name, folder=place, layer=snapshot.layer, wake=snapshot.wake, runs=runs
        )
        restored = await restore_vm(vm, point, snapshot.definition)
    await asyncio.to_thread(store.sweep_layers)
    return restored


async def delete(fleet: Fleet, store: SnapshotStore, name: str) -> None:
    """VMs that were made of it go on: their disks keep the layers that they stand on."""
    snapshot = store.get(name)
    users = fleet.domain.registry.find_users("snapshot", str(store.find_place(snapshot.id)))
    if users:
        raise Conflict(
            f"cannot delete snapshot {snapshot.name}: {len(users)} VM{'s' if len(users) > 1 else ''} wake from it",
            details=[f"VM {user}" for user in users],
            resolution="start them once, or delete them: volar vms delete " + " ".join(users),
        )
    await asyncio.to_thread(store.remove, snapshot)


async def export(fleet: Fleet, store: SnapshotStore, name: str, *, with_memory: bool) -> Export:
    snapshot = store.get(name)
    plugins = fleet.domain.plugins
    installed, plugin = plugins.get(snapshot.plugin_reference), plugins.load(snapshot.plugin_reference)
    return await asyncio.to_thread(
        export_snapshot, snapshot, installed, plugin, store, with_memory=with_memory
    )


async def take_in(fleet: Fleet, store: SnapshotStore, stream: BinaryIO, name: str) -> Snapshot:
    """An archive that somebody hands over, as a snapshot. It is read to its end, or to its first fault."""
    archive = await asyncio.to_thread(Import, stream)
    document = await asyncio.to_thread(archive.begin, name)
    kernel = await asyncio.to_thread(find_kernel, fleet.domain.settings, document)
    store.check_free(document.name)
    plugin = find_plugin(document, fleet.domain.plugins)
    return await asyncio.to_thread(archive.finish, document, store, plugin, kernel)


def find_kernel(settings: Settings, document: SnapshotDocument) -> Kernel | None:
    """What its VM would boot here."""
    with contextlib.suppress(ToolMissing, NotFound):
        return find_guest_kernel(settings, document.architecture or host_architecture(), document.kernel)
    return None


async def fork(
    fleet: Fleet, store: SnapshotStore, source: str, names: Sequence[str], key: RequestKey | None = None
) -> list[VmRecord]:
    """Running VMs of one that runs, each with a disk and an identity of its own. All of them or none.

    With a key that they were made for before: those. What a daemon made that was killed in between is made anew.
    """
    if key is None:
        return await _fork(fleet, store, source, names, [None] * len(names))
    keys = [replace(key, text=f"{key.text}#{number}") for number in range(len(names))]
    async with fleet.request_keys.hold(key):
        found = [fleet.get(vm_id) for each in keys if (vm_id := fleet.request_keys.find(each)) is not None]
        if len(found) == len(names) and all(vm.state is not VmState.CREATED for vm in found):
            return found
        for vm in found:
            await fleet.delete(vm.id, force=True)
        return await _fork(fleet, store, source, names, keys)


async def _fork(
    fleet: Fleet, store: SnapshotStore, source: str, names: Sequence[str], keys: Sequence[RequestKey | None]
) -> list[VmRecord]:
    record = fleet.get(source)
    if record.state is not VmState.RUNNING:
        raise WrongState(
            f"cannot fork VM {record.name}: it is {record.state.value}",
            resolution=f"start it first: volar vms start {record.name}",
        )
    snapshot = await take(fleet, store, source, f".fork-{secrets.token_hex(6)}", disks=False)
    turns = asyncio.Semaphore(COPIES_AT_ONCE)

    async def make(name: str, key: RequestKey | None) -> VmRecord:
        async with turns:
            request = NewVm(name=name, plugin="", restart=record.definition.restart, key=key)
            return await create_vm(fleet, snapshot, request)

    tasks = [asyncio.create_task(make(name, key)) for name, key in zip(names, keys, strict=True)]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        await end_tasks(tasks)
        for task in tasks:
            if not task.cancelled() and task.exception() is None:
                await fleet.delete(task.result().id, force=True)
        raise
    finally:
        # Their memory is mapped and their disks keep the layer.
        fleet.background.run(
            asyncio.to_thread(store.remove, snapshot), f"removal of snapshot {snapshot.name}"
        )
        tidy(fleet, store, fleet.find(record.id))
