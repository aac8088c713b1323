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
from volant.volantd.vms.states import VmState


async def take(fleet: Fleet, store: SnapshotStore, vm_name: str, snapshot_name: str) -> Snapshot:
    async with fleet.locked(vm_name) as vm:
        name = snapshot_name or f"{vm.record.name}-{secrets.token_hex(3)}"
        return await take_snapshot(vm, store, fleet.domain.hypervisor, name)


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


async def fork(fleet: Fleet, store: SnapshotStore, source: str, names: Sequence[str]) -> list[VmRecord]:
    """Running VMs of one that runs, each with a disk and an identity of its own. All of them or none."""
    record = fleet.get(source)
    if record.state is not VmState.RUNNING:
        raise WrongState(
            f"cannot fork VM {record.name}: it is {record.state.value}",
            resolution=f"start it first: volar vms start {record.name}",
        )
    snapshot = await take(fleet, store, source, f".fork-{secrets.token_hex(6)}")
    made: list[VmRecord] = []
    try:
        for name in names:
            request = NewVm(name=name, plugin="", restart=record.definition.restart)
            made.append(await create_vm(fleet, snapshot, request))
    except BaseException:
        for vm in made:
            await fleet.delete(vm.id, force=True)
        raise
    finally:
        # Their memory is mapped and their disks keep the layer.
        await asyncio.shield(asyncio.to_thread(store.remove, snapshot))
    return made
