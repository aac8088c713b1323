# SPDX-License-Identifier: Apache-2.0
"""Extent trees: which blocks hold an inode's content (ext4 documentation, "Extent Tree")."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from volant.filesystems.ext4.checksums import extend, stored
from volant.filesystems.ext4.layout import BLOCK_SIZE, BlockExtent

_HEADER = struct.Struct("<HHHHI")
_LEAF = struct.Struct("<IHHI")
_INDEX = struct.Struct("<IIHH")
_MAGIC = 0xF30A
_ROOT_ENTRIES = 4
_BLOCK_ENTRIES = (BLOCK_SIZE - 12 - 4) // 12
_ONE = struct.Struct("<HHHHIIHHI36x")


class TreeBlock(NamedTuple):
    """A block of an extent tree outside the inode."""

    block: int
    content: bytes


def count_tree_blocks(extents: int) -> int:
    """Blocks that a tree of so many extents needs outside the inode."""
    total = 0
    while extents > _ROOT_ENTRIES:
        extents = -(-extents // _BLOCK_ENTRIES)
        total += extents
    return total


def make_single_root(physical: int, count: int) -> bytes:
    """The 60 bytes of an inode whose content is one run: the usual case, made fast."""
    return _ONE.pack(_MAGIC, 1, _ROOT_ENTRIES, 0, 0, 0, count, physical >> 32, physical & 0xFFFFFFFF)


EMPTY_ROOT = _HEADER.pack(_MAGIC, 0, _ROOT_ENTRIES, 0, 0) + bytes(48)


def make_tree(
    extents: Sequence[BlockExtent], inode_state: int, next_block: Callable[[], int]
) -> tuple[bytes, list[TreeBlock]]:
    """The 60 bytes for the inode and the tree's other blocks, whose places `next_block` gives."""
    entries = [
        (
            extent.logical,
            _LEAF.pack(extent.logical, extent.length, extent.physical >> 32, extent.physical & 0xFFFFFFFF),
        )
        for extent in extents
    ]
    depth = 0
    blocks: list[TreeBlock] = []
    while len(entries) > _ROOT_ENTRIES:
        upper: list[tuple[int, bytes]] = []
        for first in range(0, len(entries), _BLOCK_ENTRIES):
            part = entries[first : first + _BLOCK_ENTRIES]
            content = _HEADER.pack(_MAGIC, len(part), _BLOCK_ENTRIES, depth, 0) + b"".join(
                raw for _, raw in part
            )
            content = content.ljust(BLOCK_SIZE - 4, b"\0")
            content += stored(extend(inode_state, content)).to_bytes(4, "little")
            block = next_block()
            blocks.append(TreeBlock(block, content))
            upper.append((part[0][0], _INDEX.pack(part[0][0], block & 0xFFFFFFFF, block >> 32, 0)))
        entries = upper
        depth += 1
    root = _HEADER.pack(_MAGIC, len(entries), _ROOT_ENTRIES, depth, 0) + b"".join(raw for _, raw in entries)
    return root.ljust(60, b"\0"), blocks
