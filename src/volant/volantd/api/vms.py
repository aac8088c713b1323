# SPDX-License-Identifier: Apache-2.0
"""/vms: their life, their logs and what they use. What enters a guest is in guests.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from volant.contract.api import (
    Boot,
    BootStep,
    StartRequest,
    StopRequest,
    Vm,
    VmChange,
    VmCreate,
    VmStats,
    VmUpdate,
)
from volant.errors import VolantError
from volant.volantd.api.mount_rights import check_may_mount
from volant.volantd.api.replies import JsonLines, TextStream
from volant.volantd.api.retries import IdempotencyKey, make_key
from volant.volantd.api.router import Router
from volant.volantd.api.vm_view import read_request, read_update
from volant.volantd.api.vm_views import VmViews
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.hypervisors.host_process import read_use
from volant.volantd.request_context import note_target
from volant.volantd.snapshots.acts import create_vm
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.events import EventLog
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.process_log import LogLine, read_since
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.start_kind import find_start
from volant.volantd.vms.states import WITH_PROCESS, VmState
from volant.volantd.vms.waiting import Condition, wait_for

CONSOLE_POLL_SECONDS = 0.2
CHUNK_BYTES = 1 << 16
MOST_LINES = 1_000_000
_Item = TypeVar("_Item")


def make_router(fleet: Fleet) -> Router:
    router = Router("/vms", tags=["vms"])
    events = fleet.domain.events
    snapshots = SnapshotStore(fleet.domain.settings.state_dir, fleet.domain.settings.vms_dir)

    views = VmViews(fleet)

    def describe(record: VmRecord, status: int = 200) -> Response:
        return Response(views.render_record(record), status, media_type="application/json")

    @router.post("", status_code=201, response_model=Vm)
    async def create(request: VmCreate, idempotency_key: IdempotencyKey = None) -> Response:
        """Create a VM, and start it unless `start` is false. Returns while it boots.

        Who asks again with the same Idempotency-Key and body gets the VM that was made, as it is now.
        """
        note_target(request.name)
        check_may_mount(request.mounts)

        async def make(wanted: NewVm) -> VmRecord:
            if request.snapshot is not None:
                return await create_vm(fleet, snapshots.get(request.snapshot), wanted)
            return await fleet.create(wanted)

        wanted = read_request(request)
        if (key := make_key(idempotency_key, "vms", request)) is None:
            return describe(await make(wanted), 201)
        record, is_replayed = await fleet.create_once(key, wanted, make)
        reply = describe(record, 201)
        reply.headers["Idempotent-Replayed"] = "true" if is_replayed else "false"
        return reply

    @router.get("", response_model=list[Vm])
    async def list_vms(
        status: VmState | None = None,
        plugin: str = "",
        health: str = "",
        label: Annotated[list[str] | None, Query(description="NAME=VALUE")] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
        after: Annotated[str, Query(description="the last name of the page before")] = "",
    ) -> StreamingResponse:
        """List VMs by name. If there are more, the header Next-After has the last name of this page."""
        labels = [label.partition("=")[::2] for label in label or []]
        page = fleet.domain.registry.list_page(
            after=after, limit=limit + 1, state=status, plugin=plugin, health=health, labels=labels
        )
        headers = {"Next-After": page[limit - 1][1]} if len(page) > limit else {}
        pieces = views.render_list([vm_id for vm_id, _ in page[:limit]])
        return StreamingResponse(pieces, headers=headers, media_type="application/json")

    @router.get("/{name}", response_model=Vm)
    async def get(
        name: str,
        wait: Annotated[
            Condition | None, Query(description="reply when it is so, or cannot become so")
        ] = None,
        seconds: Annotated[float, Query(alias="timeout", ge=0, le=3600, allow_inf_nan=False)] = 60,
    ) -> Response:
        """Show one VM; with `wait` when it is running, healthy or stopped, or when the time is over: the
        reply says which."""
        if wait is not None:
            vm_id = fleet.get(name).id
            return describe(await wait_for(fleet.domain.registry, events, vm_id, wait, seconds))
        await fleet.egress.refresh()
        return Response(views.render(name), media_type="application/json")

    @router.patch("/{name}", response_model=Vm)
    async def update(name: str, request: VmUpdate) -> Response:
        """Change a VM. `pending` of the reply lists what takes effect at its next start."""
        return describe(await fleet.update(name, read_update(request)))

    @router.get("/{name}/history")
    async def history(name: str) -> list[VmChange]:
        """List what was changed in a VM, oldest first; the newest hundred changes are kept."""
        return [VmChange(**asdict(change)) for change in fleet.domain.history.read(fleet.get(name))]

    @router.get("/{name}/boot")
    async def boot(name: str) -> Boot:
        """Show the steps of a VM's last start, and when each was reached."""
        record = fleet.get(name)
        steps = [BootStep(**asdict(step)) for step in fleet.domain.boots.read(record)]
        return Boot(started_at=record.started_at, started_from=find_start(record.spec), steps=steps)

    @router.delete("/{name}", status_code=204)
    async def delete(name: str, force: bool = False, volumes: bool = False) -> None:
        """Remove a VM and its disk. One that runs is stopped first, with `force` at once. With `volumes` go those that
        were made with it, for the disks of its plugin's manifest; others stay."""
        await fleet.delete(name, force=force, volumes=volumes)

    @router.post("/{name}/start", response_model=Vm)
    async def start(name: str, request: StartRequest | None = None) -> Response:
        """Start a VM. Returns while it boots."""
        return describe(await fleet.start(name, cold=(request or StartRequest()).cold))

    @router.post("/{name}/stop", response_model=Vm)
    async def stop(name: str, request: StopRequest | None = None) -> Response:
        """Stop a VM in order, with `force` at once. Returns when it has stopped."""
        request = request or StopRequest()
        return describe(await fleet.stop(name, timeout_seconds=request.timeout_seconds, force=request.force))

    @router.post("/{name}/restart", response_model=Vm)
    async def restart(name: str, request: StopRequest | None = None) -> Response:
        """Stop a VM in order and start it."""
        return describe(await fleet.restart(name, timeout_seconds=(request or StopRequest()).timeout_seconds))

    @router.post("/{name}/pause", response_model=Vm)
    async def pause(name: str) -> Response:
        """Pause a VM's processors; memory and published ports stay."""
        return describe(await fleet.pause(name))

    @router.post("/{name}/unpause", response_model=Vm)
    async def unpause(name: str) -> Response:
        """Let a paused VM continue."""
        return describe(await fleet.unpause(name))

    @router.post("/{name}/suspend", response_model=Vm)
    async def suspend(name: str) -> Response:
        """Write a VM's memory to the disk and end its process."""
        return describe(await fleet.suspend(name))

    @router.post("/{name}/resume", response_model=Vm)
    async def resume(name: str) -> Response:
        """Continue a suspended VM. If its memory can no longer be used it boots, and an event says why."""
        return describe(await fleet.resume(name))

    @router.get("/{name}/logs", response_class=JsonLines)
    async def logs(
        name: str,
        follow: bool = False,
        since: str = "",
        tail: Annotated[int | None, Query(ge=0, le=MOST_LINES)] = None,
        process: str = "",
    ) -> JsonLines:
        """Read what processes wrote, as JSON lines {time, process, stream, line}; with `follow` until the VM
        ends."""
        record = fleet.get(name)
        log = fleet.find(record.id).log
        moment = read_since(since)

        async def lines() -> AsyncIterator[bytes]:
            if not follow:
                for line in log.read(process=process, since=moment, tail=tail):
                    yield encode_line(line)
                return
            async for line in until_ended(
                log.follow(process=process, since=moment, tail=tail), record, fleet, events
            ):
                yield encode_line(line)

        return JsonLines(lines())

    @router.get("/{name}/console/log", response_class=TextStream)
    async def console_log(
        name: str, follow: bool = False, tail: Annotated[int | None, Query(ge=0, le=MOST_LINES)] = None
    ) -> TextStream:
        """Read the serial console's output since the VM was created (its last megabytes)."""
        record = fleet.get(name)
        chunks = follow_console(fleet.find(record.id).files.console_log, tail, follow)
        if follow:
            chunks = until_ended(chunks, record, fleet, events)
        return TextStream(chunks)

    @router.get("/{name}/stats")
    async def stats(
        name: str,
        asks_guest: Annotated[
            bool, Query(alias="guest", description="false: as the host sees it alone, which waits for nobody")
        ] = True,
    ) -> VmStats:
        """Show what a VM uses, as the guest and as the host see it."""
        record = fleet.get(name)
        guest = None
        if asks_guest and record.state in WITH_PROCESS:
            try:
                guest = await (await fleet.connect(name, timeout_seconds=1)).control.get_stats()
            except VolantError:
                guest = None  # the host's half is worth having without it
        memory, seconds = read_use(record.process.pid) if record.process else (0, 0.0)
        return VmStats(guest=guest, host_memory_bytes=memory, host_cpu_seconds=seconds)

    return router


def encode_line(line: LogLine) -> bytes:
    return (
        json.dumps(asdict(line), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    )


async def until_ended(
    items: AsyncIterator[_Item], record: VmRecord, fleet: Fleet, events: EventLog
) -> AsyncIterator[_Item]:
    """The items as they come, until the VM has ended and nothing more is there."""
    with events.listen() as happenings:
        ended = fleet.get(record.id).state not in WITH_PROCESS
        following = asyncio.ensure_future(anext(items))
        listening = asyncio.ensure_future(happenings.get())
        try:
            while True:
                timeout = 0.3 if ended else None
                await asyncio.wait(
                    {following, listening}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                if listening.done():
                    event = listening.result()
                    ended = ended or (
                        event.data.get("id") == record.id
                        and (event.kind == "deleted" or event.data.get("status") in ("stopped", "failed"))
                    )
                    listening = asyncio.ensure_future(happenings.get())
                if following.done():
                    yield following.result()
                    following = asyncio.ensure_future(anext(items))
                elif ended:
                    return
        except StopAsyncIteration:
            return
        finally:
            following.cancel()
            listening.cancel()


async def follow_console(path: Path, tail: int | None, follow: bool) -> AsyncIterator[bytes]:
    """The log's bytes (or its last lines), and with `follow` what is appended; a trimmed log is read anew."""
    position = 0
    if tail is not None:
        position = measure(path)
        yield "".join(f"{line}\n" for line in read_last_lines(path, tail) if tail).encode()
    while True:
        if measure(path) < position:
            position = 0
        while chunk := read_chunk(path, position):
            position += len(chunk)
            yield chunk
        if not follow:
            return
        await asyncio.sleep(CONSOLE_POLL_SECONDS)


def measure(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def read_chunk(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(position)
            return stream.read(CHUNK_BYTES)
    except FileNotFoundError:
        return b""
