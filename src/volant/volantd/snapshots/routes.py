# SPDX-License-Identifier: Apache-2.0
"""/snapshots, and what of /vms makes or uses them."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from volant.contract.api import ForkRequest, PluginReference, Snapshot, SnapshotCreate, Vm
from volant.volantd.api.retries import IdempotencyKey, make_key
from volant.volantd.api.vm_view import describe_vm
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.record import Snapshot as StoredSnapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.fleet import Fleet


def make_router(fleet: Fleet, store: SnapshotStore) -> APIRouter:
    router = APIRouter(tags=["snapshots"])

    def describe(snapshot: StoredSnapshot) -> Snapshot:
        return Snapshot(
            id=snapshot.id,
            name=snapshot.name,
            vm=snapshot.vm_name,
            plugin=PluginReference(name=snapshot.plugin_name, version=snapshot.plugin_version),
            has_memory=snapshot.wake is not None,
            pause_ms=round(snapshot.pause_ms, 1),
            size_bytes=store.measure(snapshot),
            created_at=snapshot.created_at,
        )

    @router.get("/snapshots")
    async def list_snapshots() -> list[Snapshot]:
        """Oldest first."""
        return [describe(snapshot) for snapshot in store.list_all() if not snapshot.is_hidden]

    @router.get("/snapshots/{name}")
    async def get(name: str) -> Snapshot:
        return describe(store.get(name))

    @router.delete("/snapshots/{name}", status_code=204)
    async def delete(name: str) -> None:
        """VMs that were made of it go on."""
        await asyncio.to_thread(store.remove, store.get(name))

    @router.post("/vms/{name}/snapshots", status_code=201)
    async def create(name: str, request: SnapshotCreate, idempotency_key: IdempotencyKey = None) -> Snapshot:
        """Disk and memory of one instant of a VM that runs, the disk alone of one that does not."""
        key = make_key(idempotency_key, f"vms/{name}/snapshots", request)
        return describe(await acts.take(fleet, store, name, request.name or "", key))

    @router.post("/vms/{name}/fork", status_code=201)
    async def fork(name: str, request: ForkRequest, idempotency_key: IdempotencyKey = None) -> list[Vm]:
        """Running VMs of one that runs: all of them or none."""
        key = make_key(idempotency_key, f"vms/{name}/fork", request)
        made = await acts.fork(fleet, store, name, request.names, key)
        return [describe_vm(fleet.domain, fleet.get(vm.id), "") for vm in made]

    return router
