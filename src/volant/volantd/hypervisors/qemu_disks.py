# SPDX-License-Identifier: Apache-2.0
"""The disks of a running QEMU: what one writes to, an overlay put on top while it runs, and layers that become one.

Block nodes are named by QMP (https://www.qemu.org/docs/master/interop/live-block-operations.html); each disk is found
by the id of its device, `driveN`, since its nodes change with every layer. Files are passed as descriptors: a QEMU that
is confined opens nothing that it was not started with.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from qemu.qmp import ExecuteError, QMPClient

from volant.errors import StorageFull, ToolFailed

# What nodes and jobs of copies are called.
COPY = "copy-"
MERGE = "merge"
# What a merge reads at most: the guest's own disk has the rest.
MERGED_BYTES_PER_SECOND = 200 << 20
POLL_SECONDS = 0.05


async def find_node(client: QMPClient, index: int) -> str:
    """The name of the node that the disk `index` writes to. ToolFailed where QEMU shows no such disk."""
    devices = cast("list[dict[str, Any]]", await client.execute("query-block"))
    for device in devices:
        if f"/drive{index}/" in f"/{device.get('qdev', '')}/" and "inserted" in device:
            return str(device["inserted"]["node-name"])
    raise ToolFailed(f"QEMU shows no disk number {index}")


async def limit_disks(client: QMPClient, bytes_per_second: int) -> None:
    """Bound what the guest's disks, all of them together, read and write; 0: no bound. It outlasts further layers."""
    if bytes_per_second == 0:
        return
    devices = cast("list[dict[str, Any]]", await client.execute("query-block"))
    unbound = dict.fromkeys(("bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    for device in devices:
        if "inserted" in device and device.get("qdev"):
            given = {"id": device["qdev"], "bps": bytes_per_second, "group": "disks", **unbound}
            await client.execute("block_set_io_throttle", given)


async def pass_file(client: QMPClient, path: Path) -> tuple[int, dict[str, Any]]:
    """A file of ours that QEMU may read and write from now on: the number of its set of descriptors, and the node."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        client.send_fd_scm(descriptor)
        added = cast("dict[str, int]", await client.execute("add-fd"))
    finally:
        os.close(descriptor)
    # No lock: QEMU keeps the descriptor that was passed, and with it the writer's lock below the next layer.
    number = added["fdset-id"]
    return number, {"driver": "file", "filename": f"/dev/fdset/{number}", "locking": "off"}


async def layer_disk(client: QMPClient, below: str, overlay: Path, name: str) -> None:
    """What the node `below` was written is written to `overlay` from now on, a QCOW2 over its file, as node `name`."""
    _, file = await pass_file(client, overlay)
    options = {"driver": "qcow2", "node-name": name, "discard": "unmap", "backing": None, "file": file}
    await client.execute("blockdev-add", options)
    await client.execute("blockdev-snapshot", {"node": below, "overlay": name})


async def copy_disk(client: QMPClient, node: str, target: Path, begun: Callable[[], Awaitable[None]]) -> None:
    """Copy what `node` holds itself, as it is at this instant, to `target`, an empty QCOW2; the guest writes on.

    QEMU's "backup" job: what is about to be overwritten is copied first. ToolFailed with QEMU's words, StorageFull.
    """
    await _remove_copies(client)
    name = f"{COPY}{secrets.token_hex(4)}"
    number, file = await pass_file(client, target)
    await client.execute(
        "blockdev-add", {"driver": "qcow2", "node-name": name, "backing": None, "file": file}
    )
    try:
        job = {"job-id": name, "device": node, "target": name, "sync": "top", "auto-dismiss": False}
        await client.execute("blockdev-backup", job)
        await begun()
        if problem := (await _wait_for_job(client, name)).get("error"):
            kind = StorageFull if "No space left" in problem else ToolFailed
            raise kind(f"cannot copy the disk: {problem}")
    finally:
        await asyncio.shield(_remove_copies(client))
        await client.execute("remove-fd", {"fdset-id": number})


async def _wait_for_job(client: QMPClient, name: str) -> dict[str, Any]:
    while True:
        found = await _find_job(client, name)
        if found["status"] == "concluded":
            return found
        await asyncio.sleep(POLL_SECONDS)


async def _find_job(client: QMPClient, name: str) -> dict[str, Any]:
    jobs = cast("list[dict[str, Any]]", await client.execute("query-jobs"))
    found = next((job for job in jobs if job["id"] == name), None)
    if found is None:
        raise ToolFailed("cannot copy the disk: QEMU has forgotten the job")
    return found


async def _remove_copies(client: QMPClient) -> None:
    """End all copying, that of a daemon that was killed included, and let go of the files."""
    jobs = cast("list[dict[str, Any]]", await client.execute("query-jobs"))
    for name in [job["id"] for job in jobs if job["id"].startswith(COPY)]:
        if (await _find_job(client, name))["status"] != "concluded":
            await client.execute("block-job-cancel", {"device": name, "force": True})
        await _wait_for_job(client, name)
        await client.execute("job-dismiss", {"id": name})
    nodes = cast("list[dict[str, Any]]", await client.execute("query-named-block-nodes", {"flat": True}))
    for node in [node["node-name"] for node in nodes if node["node-name"].startswith(COPY)]:
        await client.execute("blockdev-del", {"node-name": node})


async def begin_merge(client: QMPClient, top: str, base: Path) -> None:
    """Bring what lies between the node `top` and the file `base` into the top, which stands on `base` in the end.

    QEMU's "stream" job: the layers are only read, others may stand on them. It can be ended at any time, and is before
    anything else is done to the disk.
    """
    nodes = cast("list[dict[str, Any]]", await client.execute("query-named-block-nodes", {"flat": True}))
    below = next((node for node in nodes if node["file"] == str(base) and node["drv"] != "file"), None)
    if below is None:
        raise ToolFailed(f"cannot merge the disk's layers: QEMU does not have {base} open")
    job = {
        "job-id": MERGE, "device": top, "base-node": below["node-name"], "backing-file": str(base),
        "speed": MERGED_BYTES_PER_SECOND, "auto-dismiss": False,
    }  # fmt: skip
    await client.execute("block-stream", job)


async def finish_merge(client: QMPClient, top: str) -> bool:
    """Wait for it. False where `stop_merging` came first; ToolFailed with QEMU's words, StorageFull."""
    concluded = await _wait_for_merge(client)
    if concluded is None:
        return False
    with suppress(ExecuteError):  # who has ended it has dismissed it
        await client.execute("job-dismiss", {"id": MERGE})
    problem = concluded.get("error", "")
    if problem == os.strerror(errno.ECANCELED):
        return False
    if problem:
        kind = StorageFull if "No space left" in problem else ToolFailed
        raise kind(f"cannot merge the disk's layers: {problem}")
    await _close_layers(client, top)
    return True


async def stop_merging(client: QMPClient) -> None:
    """What was merged until then is right where it is. The merge of a daemon that was killed ends, too."""
    while (job := await _find_merge(client)) is not None:
        with suppress(ExecuteError):  # it ends by itself at this moment
            if job["status"] == "concluded":
                await client.execute("job-dismiss", {"id": MERGE})
            else:
                await client.execute("block-job-cancel", {"device": MERGE, "force": True})
                await _wait_for_merge(client)


async def _wait_for_merge(client: QMPClient) -> dict[str, Any] | None:
    """The job once it has ended; None where somebody else saw to it."""
    while True:
        job = await _find_merge(client)
        if job is None or job["status"] == "concluded":
            return job
        await asyncio.sleep(POLL_SECONDS)


async def _find_merge(client: QMPClient) -> dict[str, Any] | None:
    jobs = cast("list[dict[str, Any]]", await client.execute("query-jobs"))
    return next((job for job in jobs if job["id"] == MERGE), None)


async def _close_layers(client: QMPClient, top: str) -> None:
    """Nodes that were tops once are held by their names, and their files by the sets that they came in."""
    nodes = cast("list[dict[str, Any]]", await client.execute("query-named-block-nodes", {"flat": True}))
    for node in nodes:
        name = node["node-name"]
        if name == top or node["drv"] == "file" or not name.startswith(("over-", "disk")):
            continue
        with suppress(ExecuteError):  # another disk's
            await client.execute("blockdev-del", {"node-name": name})
            if passed := re.search(r"/dev/fdset/([0-9]+)", node["file"]):
                await client.execute("remove-fd", {"fdset-id": int(passed.group(1))})
