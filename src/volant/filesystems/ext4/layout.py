# SPDX-License-Identifier: Apache-2.0
"""Geometry: how many groups, where their metadata lie, and which blocks are left for content.

Metadata of 16 groups are packed at the start of the first of them (flex_bg); superblock copies lie in groups 0, 1
and powers of 3, 5 and 7 (sparse_super), each followed by the group descriptors and the blocks kept for their growth
(resize_inode). All the rest is one row of gaps that the allocator fills from the front, so "used" is simply
"below the allocator's position" plus the metadata, and less what it skipped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from volant.errors import InvalidInput

BLOCK_SIZE = 4096
BLOCKS_PER_GROUP = 32768
INODE_SIZE = 256
INODES_PER_BLOCK = BLOCK_SIZE // INODE_SIZE
DESCRIPTOR_SIZE = 64
DESCRIPTORS_PER_BLOCK = BLOCK_SIZE // DESCRIPTOR_SIZE
LOG_GROUPS_PER_FLEX = 4
GROUPS_PER_FLEX = 1 << LOG_GROUPS_PER_FLEX
FIRST_INODE = 11  # lost+found; those below are ext4's own
MAX_EXTENT_BLOCKS = 32768
MINIMUM_BLOCKS = 4096
# Descriptor blocks are kept for growth to this size; the kernel goes further with meta_bg when they are used up.
GROWTH_BYTES = 2 << 40

Run = tuple[int, int]


class BlockExtent(NamedTuple):
    """`length` blocks of a file from `logical` on lie at `physical`."""

    logical: int
    physical: int
    length: int


def has_superblock(group: int) -> bool:
    """Whether a group begins with a copy of the superblock (sparse_super)."""
    if group < 2:
        return True
    for base in (3, 5, 7):
        power = base
        while power < group:
            power *= base
        if power == group:
            return True
    return False


@dataclass(frozen=True)
class Layout:
    """Every position that depends on size and inode count alone. Positions are block numbers."""

    blocks: int
    groups: int
    inodes_per_group: int
    descriptor_blocks: int
    reserved_descriptor_blocks: int
    journal_blocks: int
    block_bitmaps: tuple[int, ...]
    inode_bitmaps: tuple[int, ...]
    inode_tables: tuple[int, ...]
    superblock_groups: tuple[int, ...]
    # Metadata as ascending runs (first block, count) that do not touch.
    fixed: tuple[Run, ...]

    @property
    def table_blocks(self) -> int:
        return self.inodes_per_group // INODES_PER_BLOCK

    @property
    def superblock_run(self) -> int:
        """Blocks at the start of a group with a superblock: itself, descriptors, and their room to grow."""
        return 1 + self.descriptor_blocks + self.reserved_descriptor_blocks

    def group_blocks(self, group: int) -> int:
        return min(BLOCKS_PER_GROUP, self.blocks - group * BLOCKS_PER_GROUP)


def _journal_blocks(blocks: int) -> int:
    # The steps of ext2fs_default_journal_size, which every mke2fs uses, capped at 128 MiB: it is a guest's disk.
    for limit, size in ((32768, 1024), (256 << 10, 4096), (512 << 10, 8192), (4096 << 10, 16384)):
        if blocks < limit:
            return size
    return 32768


def plan_layout(size_bytes: int, inodes_wanted: int) -> Layout:
    """Lay out a file system of `size_bytes` with room for at least `inodes_wanted` inodes."""
    blocks = size_bytes // BLOCK_SIZE
    if blocks < MINIMUM_BLOCKS:
        raise InvalidInput(
            f"cannot make a file system of {size_bytes} bytes: too small",
            resolution=f"set disk_size to at least {MINIMUM_BLOCKS * BLOCK_SIZE >> 20}M",
        )
    groups = -(-blocks // BLOCKS_PER_GROUP)
    descriptor_blocks = -(-groups // DESCRIPTORS_PER_BLOCK)
    most_groups = max(min(groups * 1024, GROWTH_BYTES // (BLOCK_SIZE * BLOCKS_PER_GROUP)), groups * 2)
    reserved = max(0, min(-(-most_groups // DESCRIPTORS_PER_BLOCK) - descriptor_blocks, BLOCK_SIZE // 4))
    superblock_run = 1 + descriptor_blocks + reserved
    # A last group too short to be of use is left out, as mke2fs does.
    tail = blocks - (groups - 1) * BLOCKS_PER_GROUP
    if groups > 1 and tail < 64 + (superblock_run if has_superblock(groups - 1) else 0):
        groups -= 1
        blocks = groups * BLOCKS_PER_GROUP

    bytes_per_inode = 16384 if size_bytes >= 512 << 20 else 8192
    per_group = max(
        min(blocks, BLOCKS_PER_GROUP) * BLOCK_SIZE // bytes_per_inode, -(-(inodes_wanted + 16) // groups)
    )
    per_group = -(-per_group // INODES_PER_BLOCK) * INODES_PER_BLOCK
    if per_group > BLOCK_SIZE * 8:
        raise InvalidInput(
            f"cannot fit {inodes_wanted} files into a disk of {size_bytes >> 20} MiB",
            resolution=f"set disk_size to at least {inodes_wanted * 5000 >> 20}M",
        )
    table_blocks = per_group // INODES_PER_BLOCK

    superblock_groups = tuple(group for group in range(groups) if has_superblock(group))
    fixed: list[Run] = [(group * BLOCKS_PER_GROUP, superblock_run) for group in superblock_groups]
    placed = _Placer(fixed, blocks)
    block_bitmaps: list[int] = []
    inode_bitmaps: list[int] = []
    inode_tables: list[int] = []
    for first in range(0, groups, GROUPS_PER_FLEX):
        count = min(GROUPS_PER_FLEX, groups - first)
        placed.move_to(first * BLOCKS_PER_GROUP)
        block_bitmaps += [placed.place(1) for _ in range(count)]
        inode_bitmaps += [placed.place(1) for _ in range(count)]
        inode_tables += [placed.place(table_blocks) for _ in range(count)]
    return Layout(
        blocks=blocks, groups=groups, inodes_per_group=per_group, descriptor_blocks=descriptor_blocks,
        reserved_descriptor_blocks=reserved, journal_blocks=_journal_blocks(blocks),
        block_bitmaps=tuple(block_bitmaps), inode_bitmaps=tuple(inode_bitmaps),
        inode_tables=tuple(inode_tables), superblock_groups=superblock_groups, fixed=_join_runs(fixed + placed.runs),
    )  # fmt: skip


class _Placer:
    """Puts metadata one after the other, around the superblock copies."""

    def __init__(self, taken: list[Run], blocks: int) -> None:
        self._taken = sorted(taken)
        self._starts = [start for start, _ in self._taken]
        self._blocks = blocks
        self._cursor = 0
        self.runs: list[Run] = []

    def move_to(self, block: int) -> None:
        self._cursor = max(self._cursor, block)

    def place(self, count: int) -> int:
        while True:
            index = bisect_right(self._starts, self._cursor + count - 1) - 1
            end = sum(self._taken[index]) if index >= 0 else 0
            if end <= self._cursor:
                break
            self._cursor = end
        start = self._cursor
        if start + count > self._blocks:
            raise InvalidInput(
                f"cannot make a file system of {self._blocks * BLOCK_SIZE >> 20} MiB: its metadata do not fit",
                resolution="set a larger disk_size",
            )
        self.runs.append((start, count))
        self._cursor += count
        return start


def _join_runs(runs: list[Run]) -> tuple[Run, ...]:
    joined: list[Run] = []
    for start, count in sorted(runs):
        if joined and joined[-1][0] + joined[-1][1] == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((start, count))
    return tuple(joined)


class Allocator:
    """Hands out content blocks from the front of the disk, gap after gap."""

    def __init__(self, layout: Layout) -> None:
        ends = [0, *(start + count for start, count in layout.fixed)]
        starts = [*(start for start, _ in layout.fixed), layout.blocks]
        self._gaps = [(end, start) for end, start in zip(ends, starts, strict=True) if start > end]
        self._gaps.reverse()
        self._layout = layout
        self.position, self.limit = self._gaps.pop()
        # Below the position and free.
        self.skipped: list[Run] = []

    def skip_to_multiple(self, blocks: int) -> None:
        """Leave blocks free up to the next multiple, unless metadata lie before it."""
        target = self.position + -self.position % blocks
        if self.position < target <= self.limit:
            self.skipped.append((self.position, target - self.position))
            self.position = target

    def allocate(self, count: int) -> list[Run]:
        """`count` blocks as few runs as possible, none longer than an extent may be."""
        runs: list[Run] = []
        while count:
            if self.position == self.limit:
                if not self._gaps:
                    raise InvalidInput(
                        f"cannot fit the content into a disk of {self._layout.blocks * BLOCK_SIZE >> 20} MiB",
                        resolution="set a larger disk_size, or leave it out",
                    )
                self.position, self.limit = self._gaps.pop()
            take = min(count, self.limit - self.position, MAX_EXTENT_BLOCKS)
            runs.append((self.position, take))
            self.position += take
            count -= take
        return runs

    def allocate_extents(self, ranges: Sequence[Run]) -> list[BlockExtent]:
        """Blocks for the logical (first, count) ranges of one inode."""
        extents: list[BlockExtent] = []
        for logical, count in ranges:
            for physical, length in self.allocate(count):
                extents.append(BlockExtent(logical, physical, length))
                logical += length
        return extents

    @property
    def used_below(self) -> int:
        """Every block below this one is used, but for those that were skipped."""
        return self.position
