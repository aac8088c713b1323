# SPDX-License-Identifier: Apache-2.0
"""crc32c as ext4 stores it.

The kernel's crc32c neither inverts the seed nor the result, the library inverts both. A State here is the library's
running value, so a chain of calls is `extend(extend(SEED, a), b)` and only what is stored is inverted.
"""

from __future__ import annotations

from collections.abc import Callable

import google_crc32c

MASK32 = 0xFFFFFFFF
# (state, bytes) → state
extend: Callable[[int, bytes], int] = google_crc32c.extend

__all__ = ["MASK32", "extend", "make_inode_state", "make_volume_state", "stored"]


def stored(state: int) -> int:
    """The 32 bits to write for a state."""
    return state ^ MASK32


def make_volume_state(uuid: bytes) -> int:
    """What every checksum of a file system starts from (no csum_seed feature: the UUID itself)."""
    return extend(0, uuid)


def make_inode_state(volume: int, inode: int) -> int:
    """What the checksums of an inode's own blocks start from; generation is always 0 here."""
    return extend(volume, inode.to_bytes(4, "little") + b"\0\0\0\0")
