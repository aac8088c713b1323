# SPDX-License-Identifier: Apache-2.0
"""The disks of a running QEMU: which file one writes to, and an overlay put on top while it runs.

Block nodes are named by QMP (https://www.qemu.org/docs/master/interop/live-block-operations.html); each disk is found
by the id of its device, `driveN`, since its nodes change with every layer.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from qemu.qmp import QMPClient

from volant.errors import ToolFailed


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    file: Path


async def find_node(client: QMPClient, index: int) -> Node:
    """The node that the disk `index` writes to now. ToolFailed where QEMU shows none."""
    devices = cast("list[dict[str, Any]]", await client.execute("query-block"))
    for device in devices:
        if f"/drive{index}/" in f"/{device.get('qdev', '')}/" and "inserted" in device:
            inserted = device["inserted"]
            return Node(inserted["node-name"], _read_file_name(inserted["file"]))
    raise ToolFailed(f"QEMU shows no disk number {index}")


def _read_file_name(name: str) -> Path:
    """QEMU spells an image that was not opened by its name alone as json:{…}."""
    if name.startswith("json:"):
        return Path(json.loads(name.removeprefix("json:"))["file"]["filename"])
    return Path(name)


async def layer_disk(client: QMPClient, below: Node, overlay: Path) -> None:
    """What is written from now on goes to `overlay`, a QCOW2 whose backing file is that of `below`."""
    name = f"layer-{secrets.token_hex(4)}"
    await client.execute(
        "blockdev-add",
        {
            "driver": "qcow2", "node-name": name, "discard": "unmap", "backing": None,
            "file": {"driver": "file", "filename": str(overlay), "locking": "auto"},
        },
    )  # fmt: skip
    await client.execute("blockdev-snapshot", {"node": below.name, "overlay": name})
