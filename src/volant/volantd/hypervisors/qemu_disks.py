# SPDX-License-Identifier: Apache-2.0
"""The disks of a running QEMU: what one writes to, and an overlay put on top while it runs.

Block nodes are named by QMP (https://www.qemu.org/docs/master/interop/live-block-operations.html); each disk is found
by the id of its device, `driveN`, since its nodes change with every layer. Files are passed as descriptors: a QEMU that
is confined opens nothing that it was not started with.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from qemu.qmp import QMPClient

from volant.errors import ToolFailed


async def find_node(client: QMPClient, index: int) -> str:
    """The name of the node that the disk `index` writes to. ToolFailed where QEMU shows no such disk."""
    devices = cast("list[dict[str, Any]]", await client.execute("query-block"))
    for device in devices:
        if f"/drive{index}/" in f"/{device.get('qdev', '')}/" and "inserted" in device:
            return str(device["inserted"]["node-name"])
    raise ToolFailed(f"QEMU shows no disk number {index}")


async def layer_disk(client: QMPClient, below: str, overlay: Path, name: str) -> None:
    """What the node `below` was written is written to `overlay` from now on, a QCOW2 over its file, as node `name`."""
    descriptor = os.open(overlay, os.O_RDWR | os.O_CLOEXEC)
    try:
        client.send_fd_scm(descriptor)
        added = cast("dict[str, int]", await client.execute("add-fd"))
    finally:
        os.close(descriptor)
    # No lock: QEMU keeps the descriptor that was passed, and with it the writer's lock below the next layer.
    file = {"driver": "file", "filename": f"/dev/fdset/{added['fdset-id']}", "locking": "off"}
    options = {"driver": "qcow2", "node-name": name, "discard": "unmap", "backing": None, "file": file}
    await client.execute("blockdev-add", options)
    await client.execute("blockdev-snapshot", {"node": below, "overlay": name})
