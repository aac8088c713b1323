# SPDX-License-Identifier: Apache-2.0
"""The root disk of a VM: a copy-on-write overlay over its plugin's read-only payload."""

from __future__ import annotations

import os
import re
from pathlib import Path

from volant.errors import InvalidInput, StorageFull, ToolFailed
from volant.process import require_tool, run_tool

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
# What a plugin's disk may have, too.
MOST_DISK_BYTES = 1 << 46


def read_size(text: str) -> int:
    """Bytes of a size as people write it: 20G, 512M, 1.5T."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (size := int(float(match[1]) * _UNITS[match[2].upper()])) > MOST_DISK_BYTES:
        raise InvalidInput(f"cannot read the size {text!r}", resolution="give it as 20G or 512M, at most 64T")
    return size


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
