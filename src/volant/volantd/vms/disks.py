# SPDX-License-Identifier: Apache-2.0
"""The root disk of a VM: a copy-on-write overlay over its plugin's read-only payload."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from volant.contract.disk_probe import QCOW2_MAGIC
from volant.errors import StorageFull, ToolFailed
from volant.process import require_tool, run_tool


def make_overlay(overlay: Path, backing: Path, backing_format: str, size_bytes: int | None) -> Path:
    """Make the overlay unless it is there; blocking. It appears under its name only when it is whole."""
    if overlay.exists():
        return overlay
    draft = overlay.with_name(f".{overlay.name}.new")
    command = [
        require_tool("qemu-img", package="qemu-utils"),
        *("create", "-q", "-f", "qcow2", "-F", backing_format, "-b", str(backing)),
        str(draft),
        *([str(size_bytes)] if size_bytes else []),
    ]
    try:
        run_tool(command, what=f"make the disk {overlay}")
        os.replace(draft, overlay)
    except ToolFailed as error:
        if any("No space left" in line for line in error.details):
            raise StorageFull(
                f"cannot make the disk {overlay}: the host's disk is full", resolution="free some space"
            ) from error
        raise
    finally:
        draft.unlink(missing_ok=True)
    return overlay


def read_backing(image: Path) -> Path | None:
    """The backing file that a QCOW2 of ours names (docs/interop/qcow2.txt, bytes 8 to 19), or None."""
    with image.open("rb") as stream:
        header = stream.read(20)
        if len(header) < 20 or header[:4] != QCOW2_MAGIC:
            return None
        offset, length = struct.unpack(">QI", header[8:20])
        if not offset:
            return None
        stream.seek(offset)
        return Path(os.fsdecode(stream.read(length)))


def list_chain(image: Path) -> Iterator[Path]:
    """An image and the layers below it, topmost first."""
    current: Path | None = image
    while current is not None and current.exists():
        yield current
        current = read_backing(current)
