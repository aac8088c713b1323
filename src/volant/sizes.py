# SPDX-License-Identifier: Apache-2.0
"""Sizes in bytes, as people write them and as they are shown: in powers of 1024 everywhere."""

from __future__ import annotations

import re

from volant.errors import InvalidInput

# What a disk may have at most.
MOST_BYTES = 1 << 46
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def read_size(text: str) -> int:
    """Bytes of 20G, 512M, 1.5T, "2 GiB" or 4096. Raises InvalidInput."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (size := int(float(match[1]) * _UNITS[match[2].upper()])) > MOST_BYTES:
        raise InvalidInput(f"cannot read the size {text!r}", resolution="give it as 20G or 512M, at most 64T")
    return size


def show_size(size_bytes: int) -> str:
    """512 B, 1.5 KiB, 76.0 MiB."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
