# SPDX-License-Identifier: Apache-2.0
"""/volumes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

from fastapi import Query, Request

from volant.contract.volumes_api import Volume, VolumeCreate, VolumeResize
from volant.volantd.api.replies import TarStream
from volant.volantd.api.router import Router
from volant.volantd.api.uploads import open_body
from volant.volantd.request_context import note_target
from volant.volantd.vms.fleet import Fleet
from volant.volantd.volumes import acts
from volant.volantd.volumes.store import Volume as StoredVolume
from volant.volantd.volumes.store import read_volume_size


def make_router(fleet: Fleet) -> Router:
    router = Router("/volumes", tags=["volumes"])
    store = fleet.domain.volumes

    def describe(volume: StoredVolume) -> Volume:
        facts = volume.model_dump(exclude={"is_settled"})
        return Volume(**facts, used_bytes=store.measure(volume), vms=store.find_vms(volume))

    @router.get("")
    async def list_volumes() -> list[Volume]:
        """List volumes by name."""
        return [describe(volume) for volume in store.list_all()]

    @router.post("", status_code=201)
    async def create(request: VolumeCreate) -> Volume:
        """Create a volume: an empty ext4 file system for VMs to mount."""
        note_target(request.name)
        size_bytes = read_volume_size(request.size)
        return describe(await asyncio.to_thread(store.create, request.name, size_bytes))

    @router.get("/{name}")
    async def get(name: str) -> Volume:
        """Show one volume."""
        return describe(store.get(name))

    @router.delete("/{name}", status_code=204)
    async def delete(name: str) -> None:
        """Delete a volume with its content; 409 if a VM, running or not, uses it."""
        await acts.delete(fleet, name)

    @router.post("/{name}/resize")
    async def resize(name: str, request: VolumeResize) -> Volume:
        """Enlarge a volume. A guest that writes to it sees that at once."""
        return describe(await acts.resize(fleet, name, read_volume_size(request.size)))

    @router.get("/{name}/archive", response_class=TarStream)
    async def back_up(name: str) -> TarStream:
        """Read a volume as a tar archive of one instant, while VMs use it."""
        store.get(name)
        return TarStream(acts.stream_backup(fleet, name))

    @router.post("/restore", status_code=201)
    async def restore(request: Request, name: Annotated[str, Query(max_length=63)] = "") -> Volume:
        """Create a volume from the archive in the body; with `name` under that name."""
        with contextlib.closing(open_body(request.stream())) as stream:
            return describe(await asyncio.to_thread(acts.take_in, store, stream, name))

    return router
