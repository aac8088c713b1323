# SPDX-License-Identifier: Apache-2.0
"""Inodes of 256 bytes with nanosecond times (ext4 documentation, "Index Nodes")."""

from __future__ import annotations

import struct

from volant.filesystems.ext4.checksums import MASK32, extend, stored
from volant.filesystems.ext4.layout import INODE_SIZE

FLAG_EXTENTS = 0x80000
FLAG_INDEX = 0x1000
EXTRA_SIZE = 32
ROOT = 2
RESIZE = 7
JOURNAL = 8
_INODE = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHHHHIIIIIII96s")
_CHECKSUM_LOW = 0x7C
_CHECKSUM_HIGH = 0x82
_EARLIEST = -(1 << 31)
# The format goes on to 2446, but e2fsck takes what lies beyond for a time before 1970 that an old kernel wrote badly.
_LATEST = 3 * (1 << 32) - (1 << 31) - 1
assert _INODE.size == INODE_SIZE


def encode_time(seconds: int, nanoseconds: int) -> tuple[int, int]:
    """(low 32 bits, extra field) of a time; from 1901 to 2310, others are moved to the nearer end."""
    seconds = min(max(seconds, _EARLIEST), _LATEST)
    low = seconds & MASK32
    signed = low - (1 << 32) if low & 0x80000000 else low
    return low, ((seconds - signed) >> 32 & 3) | (nanoseconds << 2)


def encode_device(major: int, minor: int) -> bytes:
    """The 60 bytes of a device node: the old short form where it fits, else the new one."""
    if major < 256 and minor < 256:
        return struct.pack("<II52x", major << 8 | minor, 0)
    return struct.pack("<II52x", 0, (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12) & MASK32)


def make_inode(
    inode_state: int, *, mode: int, uid: int, gid: int, size: int, time: tuple[int, int], links: int, sectors: int,
    flags: int, block: bytes, xattr_block: int = 0, xattr_area: bytes = b"",
) -> bytearray:  # fmt: skip
    """One inode. `sectors`: 512-byte units in use; `block`: its 60 bytes; `time`: from encode_time, for all four."""
    low, extra = time
    raw = _INODE.pack(
        mode, uid & 0xFFFF, size & MASK32, low, low, low, 0, gid & 0xFFFF, links, sectors & MASK32, flags, 0,
        block, 0, xattr_block & MASK32, size >> 32, 0, sectors >> 32, xattr_block >> 32, uid >> 16, gid >> 16,
        0, 0, EXTRA_SIZE, 0, extra, extra, extra, low, extra, 0, 0, xattr_area,
    )  # fmt: skip
    checksum = stored(extend(inode_state, raw))
    inode = bytearray(raw)
    inode[_CHECKSUM_LOW] = checksum & 0xFF
    inode[_CHECKSUM_LOW + 1] = checksum >> 8 & 0xFF
    inode[_CHECKSUM_HIGH] = checksum >> 16 & 0xFF
    inode[_CHECKSUM_HIGH + 1] = checksum >> 24
    return inode
