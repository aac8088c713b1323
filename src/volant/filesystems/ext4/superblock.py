# SPDX-License-Identifier: Apache-2.0
"""Superblock, group descriptors, bitmaps and the resize inode: what describes the file system itself."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from volant.filesystems.ext4.checksums import MASK32, extend, stored
from volant.filesystems.ext4.directory_hash import HALF_MD4
from volant.filesystems.ext4.inodes import EXTRA_SIZE, JOURNAL
from volant.filesystems.ext4.layout import (
    BLOCK_SIZE,
    BLOCKS_PER_GROUP,
    DESCRIPTOR_SIZE,
    FIRST_INODE,
    INODE_SIZE,
    LOG_GROUPS_PER_FLEX,
    Allocator,
    Layout,
    Run,
)

# has_journal, ext_attr, resize_inode, dir_index
_COMPATIBLE = 0x4 | 0x8 | 0x10 | 0x20
# filetype, extents, 64bit, flex_bg
_INCOMPATIBLE = 0x2 | 0x40 | 0x80 | 0x200
# sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum
_READ_ONLY_COMPATIBLE = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400
_UNSIGNED_HASH = 0x2
_INODE_UNINIT = 0x1
_BLOCK_UNINIT = 0x2
_TABLE_ZEROED = 0x4
_DESCRIPTOR = struct.Struct("<IIIHHHHIHHHHIIIHHHHIHHI")
assert _DESCRIPTOR.size == DESCRIPTOR_SIZE


@dataclass(frozen=True)
class Volume:
    """What names a file system, and the state that its checksums start from."""

    uuid: bytes
    hash_seed: bytes
    state: int
    label: bytes
    timestamp: int

    @property
    def hash_seed_words(self) -> tuple[int, ...]:
        return struct.unpack("<4I", self.hash_seed)


@dataclass(frozen=True)
class Groups:
    """The descriptor table and the bitmap blocks that have to be written, with the totals for the superblock."""

    table: bytes
    bitmaps: dict[int, bytes]
    free_blocks: int
    free_inodes: int


def make_groups(
    layout: Layout, volume: Volume, allocator: Allocator, inodes: int, directories: list[int]
) -> Groups:
    """Descriptors of all groups. `inodes` are in use from number 1 on; `directories` counts them per group."""
    bitmaps: dict[int, bytes] = {}
    table: list[bytes] = []
    free_blocks = 0
    per_group = layout.inodes_per_group
    used_below = allocator.used_below
    fixed_of, skipped_of = _split_by_group(layout.fixed), _split_by_group(allocator.skipped)
    inode_padding = ((1 << (BLOCK_SIZE * 8 - per_group)) - 1) << per_group
    metadata_of_others = [False] * layout.groups
    for position in (*layout.block_bitmaps, *layout.inode_bitmaps, *layout.inode_tables):
        metadata_of_others[position // BLOCKS_PER_GROUP] = True

    for group in range(layout.groups):
        start = group * BLOCKS_PER_GROUP
        size = layout.group_blocks(group)
        bits = (1 << min(max(used_below - start, 0), size)) - 1
        for first, count in fixed_of.get(group, ()):
            bits |= ((1 << count) - 1) << first
        for first, count in skipped_of.get(group, ()):
            bits &= ~(((1 << count) - 1) << first)
        used = bits.bit_count()
        free_blocks += size - used
        flags = _TABLE_ZEROED
        block_checksum = inode_checksum = 0
        # The kernel makes up the bitmap of a group that holds nothing but its own superblock copy.
        if metadata_of_others[group] or used_below > start or group == layout.groups - 1:
            bits |= ((1 << (BLOCKS_PER_GROUP - size)) - 1) << size
            bitmap = bits.to_bytes(BLOCK_SIZE, "little")
            bitmaps[layout.block_bitmaps[group]] = bitmap
            block_checksum = stored(extend(volume.state, bitmap))
        else:
            flags |= _BLOCK_UNINIT
        used_inodes = min(max(inodes - group * per_group, 0), per_group)
        if used_inodes:
            bitmap = ((1 << used_inodes) - 1 | inode_padding).to_bytes(BLOCK_SIZE, "little")
            bitmaps[layout.inode_bitmaps[group]] = bitmap
            inode_checksum = stored(extend(volume.state, bitmap[: per_group // 8]))
        else:
            flags |= _INODE_UNINIT
        table.append(
            _make_descriptor(
                layout,
                volume,
                group,
                flags=flags,
                free_blocks=size - used,
                free_inodes=per_group - used_inodes,
                directories=directories[group] if group < len(directories) else 0,
                block_checksum=block_checksum,
                inode_checksum=inode_checksum,
            )
        )
    return Groups(b"".join(table), bitmaps, free_blocks, layout.groups * per_group - inodes)


def _split_by_group(runs: Iterable[Run]) -> dict[int, list[Run]]:
    parts: dict[int, list[Run]] = {}
    for start, count in runs:
        while count:
            group, offset = divmod(start, BLOCKS_PER_GROUP)
            take = min(count, BLOCKS_PER_GROUP - offset)
            parts.setdefault(group, []).append((offset, take))
            start += take
            count -= take
    return parts


def _make_descriptor(
    layout: Layout, volume: Volume, group: int, *, flags: int, free_blocks: int, free_inodes: int, directories: int,
    block_checksum: int, inode_checksum: int,
) -> bytes:  # fmt: skip
    positions = (layout.block_bitmaps[group], layout.inode_bitmaps[group], layout.inode_tables[group])
    # The inodes that were never used are the free ones: numbers are given out densely.
    unused = free_inodes
    raw = _DESCRIPTOR.pack(
        *(position & MASK32 for position in positions), free_blocks & 0xFFFF, free_inodes & 0xFFFF,
        directories & 0xFFFF, flags, 0, block_checksum & 0xFFFF, inode_checksum & 0xFFFF, unused & 0xFFFF, 0,
        *(position >> 32 for position in positions), free_blocks >> 16, free_inodes >> 16, directories >> 16,
        unused >> 16, 0, block_checksum >> 16, inode_checksum >> 16, 0,
    )  # fmt: skip
    checksum = stored(extend(extend(volume.state, group.to_bytes(4, "little")), raw)) & 0xFFFF
    return raw[:0x1E] + checksum.to_bytes(2, "little") + raw[0x20:]


def make_superblock(
    layout: Layout, volume: Volume, groups: Groups, *, group: int, journal_root: bytes
) -> bytes:  # fmt: skip
    """The 1024 bytes of the superblock, or of its copy in `group`. `journal_root`: the journal inode's 60 bytes."""
    superblock = bytearray(1024)
    put = struct.pack_into
    reserved = layout.blocks // 100
    put("<IIIIII", superblock, 0x00, layout.inodes_per_group * layout.groups, layout.blocks & MASK32,
        reserved & MASK32, groups.free_blocks & MASK32, groups.free_inodes, 0)  # fmt: skip
    put("<IIIIII", superblock, 0x18, 2, 2, BLOCKS_PER_GROUP, BLOCKS_PER_GROUP, layout.inodes_per_group, 0)
    # Never mounted; no forced checks; magic; clean; on errors go on.
    put("<IHHHHHHII", superblock, 0x30, volume.timestamp & MASK32, 0, 0xFFFF, 0xEF53, 1, 1, 0,
        volume.timestamp & MASK32, 0)  # fmt: skip
    put("<IIHH", superblock, 0x48, 0, 1, 0, 0)  # Linux, dynamic inode sizes
    put(
        "<IHHIII",
        superblock,
        0x54,
        FIRST_INODE,
        INODE_SIZE,
        group,
        _COMPATIBLE,
        _INCOMPATIBLE,
        _READ_ONLY_COMPATIBLE,
    )
    superblock[0x68:0x78] = volume.uuid
    superblock[0x78:0x88] = volume.label.ljust(16, b"\0")
    put("<H", superblock, 0xCE, layout.reserved_descriptor_blocks)
    put("<I", superblock, 0xE0, JOURNAL)
    superblock[0xEC:0xFC] = volume.hash_seed
    put("<BBH", superblock, 0xFC, HALF_MD4, 1, DESCRIPTOR_SIZE)
    put("<III", superblock, 0x100, 0xC, 0, volume.timestamp & MASK32)  # user_xattr and acl by default
    superblock[0x10C : 0x10C + 60] = journal_root
    put("<II", superblock, 0x10C + 60, 0, layout.journal_blocks * BLOCK_SIZE)
    put("<III", superblock, 0x150, layout.blocks >> 32, reserved >> 32, groups.free_blocks >> 32)
    put("<HHI", superblock, 0x15C, EXTRA_SIZE, EXTRA_SIZE, _UNSIGNED_HASH)
    put("<BB", superblock, 0x174, LOG_GROUPS_PER_FLEX, 1)  # checksums are crc32c
    put("<I", superblock, 0x268, FIRST_INODE)  # lost+found
    late = volume.timestamp >> 32 & 0xFF
    put("<BBBB", superblock, 0x274, late, 0, late, late)
    put("<I", superblock, 0x3FC, stored(extend(0, bytes(superblock[:0x3FC]))))
    return bytes(superblock)


def make_reserved_descriptor_block(layout: Layout, index: int) -> bytes:
    """Content of reserved descriptor block `index` of group 0: where its copies in the other groups lie."""
    offset = 1 + layout.descriptor_blocks + index
    copies = [group * BLOCKS_PER_GROUP + offset for group in layout.superblock_groups[1:]]
    return struct.pack(f"<{len(copies)}I", *copies).ljust(BLOCK_SIZE, b"\0")


def make_resize_index(layout: Layout) -> bytes:
    """The double-indirect block of the resize inode: the reserved descriptor blocks by their descriptor number."""
    words = [0] * (BLOCK_SIZE // 4)
    for index in range(layout.reserved_descriptor_blocks):
        words[(layout.descriptor_blocks + index) % len(words)] = 1 + layout.descriptor_blocks + index
    return struct.pack(f"<{len(words)}I", *words)
