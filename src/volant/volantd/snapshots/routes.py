# SPDX-License-Identifier: Apache-2.0
"""/snapshots, and what of /vms makes or uses them."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import StreamingResponse

from volant.contract.api import ForkRequest, PluginReference, RestoreRequest, Snapshot, SnapshotCreate, Vm
from volant.volantd.api.retries import IdempotencyKey, make_key
from volant.volantd.api.router import Router
from volant.volantd.api.uploads import open_body
from volant.volantd.api.vm_view import describe_vm
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.document import SNAPSHOT_NAME
from volant.volantd.snapshots.record import Snapshot as StoredSnapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.fleet import Fleet


def make_router(fleet: Fleet, store: SnapshotStore) -> Router:
    router = Router(tags=["snapshots"])

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
        """List snapshots, oldest first."""
        return [describe(snapshot) for snapshot in store.list_all() if not snapshot.is_hidden]

    @router.get("/snapshots/{name}")
    async def get(name: str) -> Snapshot:
        """Show one snapshot."""
        return describe(store.get(name))

    @router.get("/snapshots/{name}/archive", response_class=StreamingResponse)
    async def export(name: str, memory: bool = False) -> StreamingResponse:
        """Read a snapshot as a tar: its disk and, with `memory`, all that the guest had in memory, its
        secrets too."""
        exported = await acts.export(fleet, store, name, with_memory=memory)
        return StreamingResponse(exported.chunks(), media_type="application/x-tar")

    @router.post("/snapshots/import", status_code=201)
    async def take_in(
        request: Request, name: Annotated[str, Query(pattern=f"({SNAPSHOT_NAME})|^$")] = ""
    ) -> Snapshot:
        """Import the archive in the body as a snapshot; with `name` under that name."""
        with contextlib.closing(open_body(request.stream())) as stream:
            return describe(await acts.take_in(fleet, store, stream, name))

    @router.delete("/snapshots/{name}", status_code=204)
    async def delete(name: str) -> None:
        """Delete a snapshot. VMs made from it are kept; 409 if one has yet to wake from it."""
        await acts.delete(fleet, store, name)

    @router.post("/vms/{name}/snapshots", status_code=201)
    async def create(name: str, request: SnapshotCreate, idempotency_key: IdempotencyKey = None) -> Snapshot:
        """Take a snapshot: disk and memory of a running VM, the disk alone of a stopped one."""
        key = make_key(idempotency_key, f"vms/{name}/snapshots", request)
        return describe(await acts.take(fleet, store, name, request.name or "", key))

    @router.post("/vms/{name}/restore")
    async def restore(name: str, request: RestoreRequest) -> Vm:
        """Return a VM to a snapshot; its current state is lost."""
        restored = await acts.restore(fleet, store, name, request.snapshot)
        return describe_vm(fleet.domain, restored, "")

    @router.post("/vms/{name}/fork", status_code=201)
    async def fork(name: str, request: ForkRequest, idempotency_key: IdempotencyKey = None) -> list[Vm]:
        """Create running copies of a running VM: all of them or none."""
        key = make_key(idempotency_key, f"vms/{name}/fork", request)
        made = await acts.fork(fleet, store, name, request.names, key)
        return [describe_vm(fleet.domain, fleet.get(vm.id), "") for vm in made]

    return router
