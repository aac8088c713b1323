# SPDX-License-Identifier: Apache-2.0
"""/system/backup and /system/restore."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from fastapi import Request

from volant.contract.system_api import RestoreReply
from volant.volantd.api.replies import TarStream
from volant.volantd.api.router import Router
from volant.volantd.api.uploads import open_body
from volant.volantd.backup.restoring import refuse_what_is_there, stage_backup
from volant.volantd.backup.taking import stream_backup
from volant.volantd.resource import Resource
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.states import WITH_PROCESS


def make_router(fleet: Fleet, resources: Sequence[Resource], begin_anew: Callable[[], None]) -> Router:
    router = Router("/system", tags=["system"])

    @router.get("/backup", response_class=TarStream)
    async def backup(plugins: bool = True, memory: bool = False) -> TarStream:
        """All of the state as a tar archive, while VMs run. It holds keys and disks: whoever has it has everything."""
        return TarStream(stream_backup(fleet, resources, with_plugins=plugins, with_memory=memory))

    @router.post("/restore")
    async def restore(request: Request, replace: bool = False) -> RestoreReply:
        """Replace the state by the backup in the body, completely or not at all. The daemon restarts with it."""
        is_empty = check_place(fleet, replaces=replace)
        state_dir = fleet.domain.settings.state_dir
        with ExitStack() as stack:
            staging = stage_backup(open_body(request.stream()), state_dir, resources, keeps=not is_empty)
            staged = await asyncio.to_thread(stack.enter_context, staging)
            check_place(fleet, replaces=replace)
            staged.publish()
            begin_anew()
        return RestoreReply(taken_at=staged.head.taken_at, notes=staged.notes, **staged.counts)

    return router


def check_place(fleet: Fleet, *, replaces: bool) -> bool:
    """Whether there is nothing that the backup would replace; Conflict where it must not."""
    domain = fleet.domain
    records = fleet.list_all()
    snapshots = SnapshotStore(domain.settings.state_dir, domain.settings.vms_dir).list_all()
    counts = {
        "VM(s)": len(records),
        "plugin(s)": len(domain.plugins.list_all()),
        "secret(s)": len(domain.secrets.list_all()),
        "volume(s)": len(domain.volumes.list_all()),
        "snapshot(s)": len(snapshots),
    }
    running = [record.name for record in records if record.state in WITH_PROCESS]
    refuse_what_is_there(counts, running, replaces=replaces)
    return not any(counts.values())
