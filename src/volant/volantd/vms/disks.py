# SPDX-License-Identifier: Apache-2.0
"""The root disk of a VM: a copy-on-write overlay over its plugin's read-only payload."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from volant.contract.disk_probe import QCOW2_MAGIC
from volant.errors import InvalidInput, StorageFull, ToolFailed
from volant.process import require_tool, run_tool
from volant.volantd.vms.empty_overlay import write_empty_overlay
from volant.whole_file import WholeFile

# The header's incompatible features (docs/interop/qcow2.txt, bytes 72 to 79): an external data file.
_DATA_FILE = 4


def make_overlay(overlay: Path, backing: Path, backing_format: str, size_bytes: int | None) -> Path:
    """Make the overlay, or grow the one that is there; blocking. It appears under its name only when it is whole."""
    if overlay.exists():
        if size_bytes and read_virtual_size(overlay) < size_bytes:
            run_qemu_img(overlay, "resize", "-q", "-f", "qcow2", str(overlay), str(size_bytes))
        return overlay
    size_bytes = size_bytes or (
        read_virtual_size(backing) if backing_format == "qcow2" else backing.stat().st_size
    )
    with WholeFile(overlay, mode=0o600, is_durable=False) as file:
        write_empty_overlay(file.descriptor, backing, backing_format, size_bytes)
        file.publish()
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


def check_layer(image: Path) -> None:
    """InvalidInput unless it is a QCOW2 whose own data are in it; what it stands on is for the caller to look at."""
    with image.open("rb") as stream:
        header = stream.read(80)
    magic, version, crypt = (header[:4], *(int.from_bytes(header[at : at + 4], "big") for at in (4, 32)))
    features = int.from_bytes(header[72:80], "big") if version == 3 else 0
    if magic != QCOW2_MAGIC or version not in (2, 3) or crypt or features & _DATA_FILE:
        raise InvalidInput(f"cannot use the disk {image.name}: it is no QCOW2 of ours")


def list_chain(image: Path) -> Iterator[Path]:
    """An image and the layers below it, topmost first."""
    current: Path | None = image
    while current is not None and current.exists():
        yield current
        current = read_backing(current)


def read_virtual_size(disk: Path) -> int:
    """Of a QCOW2 of ours, by its header (QEMU's docs/interop/qcow2.txt: big endian, at byte 24)."""
    with disk.open("rb") as stream:
        stream.seek(24)
        return int.from_bytes(stream.read(8), "big")


def run_qemu_img(disk: Path, *arguments: str) -> None:
    try:
        run_tool([require_tool("qemu-img", package="qemu-utils"), *arguments], what=f"make the disk {disk}")
    except ToolFailed as error:
        if any("No space left" in line for line in error.details):
            raise StorageFull(
                f"cannot make the disk {disk}: the host's disk is full", resolution="free some space"
            ) from error
        raise
