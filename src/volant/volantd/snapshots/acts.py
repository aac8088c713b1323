# SPDX-License-Identifier: Apache-2.0
"""What people ask of snapshots: take one, make VMs of one, and fork a VM, which is both at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace

from volant.errors import InvalidInput, WrongState
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.snapshots.taking import take_snapshot
from volant.volantd.vms.definition import NewVm, Origin
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.request_keys import RequestKey
from volant.volantd.vms.states import VmState


async def take(
    fleet: Fleet, store: SnapshotStore, vm_name: str, snapshot_name: str, key: RequestKey | None = None
) -> Snapshot:
    """One snapshot, or with a key that one was made for before: that."""
    async with fleet.locked(vm_name) as vm:
        if key is not None and (made := store.find_made(key)) is not None:
            return made
        name = snapshot_name or f"{vm.record.name}-{secrets.token_hex(3)}"
        return await take_snapshot(
            vm, store, fleet.domain.hypervisor, name, key.text_and_content if key else ""
        )


async def create_vm(fleet: Fleet, snapshot: Snapshot, request: NewVm) -> VmRecord:
    """A VM of a snapshot. What the snapshot's VM was decides what this one is; another name, labels, environment and
    published ports may be asked for."""
    fixed = ("vcpu", "memory_mb", "network", "disk_size")
    if given := [name for name in fixed if getattr(request, name) is not None]:
        raise InvalidInput(
            f"cannot create VM {request.name} with another {given[0]} than snapshot {snapshot.name} has",
            resolution="leave it out, or create the VM from its plugin",
        )
    origin = Origin(snapshot.definition, snapshot.layer, snapshot.wake)
    return await fleet.create(replace(request, plugin=snapshot.plugin_reference, origin=origin))


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
    snapshot = await take(fleet, store, source, f".fork-{secrets.token_hex(6)}")
    made: list[VmRecord] = []
    try:
        for name, key in zip(names, keys, strict=True):
            request = NewVm(name=name, plugin="", restart=record.definition.restart, key=key)
            made.append(await create_vm(fleet, snapshot, request))
    except BaseException:
        for vm in made:
            await fleet.delete(vm.id, force=True)
        raise
    finally:
        # Their memory is mapped and their disks keep the layer.
        await asyncio.shield(asyncio.to_thread(store.remove, snapshot))
    return made
