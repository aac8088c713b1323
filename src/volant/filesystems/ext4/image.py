# SPDX-License-Identifier: Apache-2.0
"""The planned file system as a whole: planning in five calls, and the pieces of metadata around the content."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from volant.errors import InvalidInput
from volant.filesystems.blocks import Origin, Piece
from volant.filesystems.ext4.checksums import make_inode_state, make_volume_state
from volant.filesystems.ext4.content import (
    FAST_SYMLINK_BYTES,
    LOST_AND_FOUND_BLOCKS,
    SPREAD_BITS,
    SPREAD_BLOCKS,
    Content,
)
from volant.filesystems.ext4.extents import EMPTY_ROOT, make_tree
from volant.filesystems.ext4.inodes import (
    FLAG_EXTENTS,
    FLAG_INDEX,
    JOURNAL,
    RESIZE,
    encode_device,
    encode_time,
    make_inode,
)
from volant.filesystems.ext4.inodes import ROOT as ROOT_INODE
from volant.filesystems.ext4.journal import make_journal_superblock
from volant.filesystems.ext4.layout import (
    BLOCK_SIZE,
    BLOCKS_PER_GROUP,
    FIRST_INODE,
    INODE_SIZE,
    Allocator,
    BlockExtent,
    Layout,
    plan_layout,
)
from volant.filesystems.ext4.numbering import NO_NODE, Numbering, number_inodes
from volant.filesystems.ext4.superblock import (
    Groups,
    Volume,
    make_groups,
    make_reserved_descriptor_block,
    make_resize_index,
    make_superblock,
)
from volant.filesystems.filetree import ROOT, FileTree

DEFAULT_SIZE_BYTES = 10 << 30
_GIB = 1 << 30
_INODES_PER_PIECE = 256
# What the double-indirect map of the resize inode can address; its size says so, whatever is in use.
_RESIZE_SIZE = (1024 * 1024 + 1024 + 12) * BLOCK_SIZE


@dataclass(frozen=True)
class Ext4Image:
    """A PlannedImage (see blocks.py); everything is decided, nothing of the content has been read."""

    size_bytes: int
    layout: Layout
    volume: Volume
    content: Content
    numbering: Numbering
    groups: Groups
    journal: list[BlockExtent]
    journal_root: bytes
    resize_index: int

    @property
    def origins(self) -> Sequence[Origin]:
        return self.content.tree.origins

    @property
    def used_bytes(self) -> int:
        """Bytes of blocks in use: content and metadata."""
        return (self.layout.blocks - self.groups.free_blocks) * BLOCK_SIZE

    def pieces(self) -> Iterator[Piece]:
        metadata = self._metadata()
        pending = next(metadata, None)
        # By hand: heapq.merge takes longer than all that makes the pieces.
        for piece in self._content():
            while pending is not None and pending[0] < piece[0]:
                yield pending
                pending = next(metadata, None)
            yield piece
        if pending is not None:
            yield pending
            yield from metadata

    def _content(self) -> Iterator[Piece]:
        yield from self.content.pieces()
        if self.resize_index:
            yield Piece(self.resize_index * BLOCK_SIZE, BLOCK_SIZE, make_resize_index(self.layout))
        journal = make_journal_superblock(self.layout.journal_blocks)
        yield Piece(self.journal[0].physical * BLOCK_SIZE, BLOCK_SIZE, journal)

    def _metadata(self) -> Iterator[Piece]:
        """Superblocks, descriptors, bitmaps and inode tables, ascending."""
        layout = self.layout
        places: list[tuple[int, str, int]] = []
        places += [(group * BLOCKS_PER_GROUP, "superblock", group) for group in layout.superblock_groups]
        places += [(block, "bitmap", block) for block in self.groups.bitmaps]
        in_use = self.numbering.last_inode
        places += [
            (table, "inodes", group)
            for group, table in enumerate(layout.inode_tables)
            if group * layout.inodes_per_group < in_use
        ]
        for block, kind, number in sorted(places):
            if kind == "superblock":
                data = self._make_group_head(number)
                yield Piece(block * BLOCK_SIZE, len(data), data)
            elif kind == "bitmap":
                yield Piece(block * BLOCK_SIZE, BLOCK_SIZE, self.groups.bitmaps[number])
            else:
                yield from self._inode_pieces(number, block * BLOCK_SIZE)

    def _make_group_head(self, group: int) -> bytes:
        layout = self.layout
        superblock = make_superblock(
            layout, self.volume, self.groups, group=group, journal_root=self.journal_root
        )
        # The first superblock leaves room for a boot sector; its copies start their groups.
        head = (bytes(1024) + superblock if group == 0 else superblock).ljust(BLOCK_SIZE, b"\0")
        parts = [head, self.groups.table.ljust(layout.descriptor_blocks * BLOCK_SIZE, b"\0")]
        if group == 0:
            parts += [
                make_reserved_descriptor_block(layout, index)
                for index in range(layout.reserved_descriptor_blocks)
            ]
        return b"".join(parts)

    # -- inodes --------------------------------------------------------------------------------------------------

    def _inode_pieces(self, group: int, offset: int) -> Iterator[Piece]:
        """The used part of a group's inode table, cut at multiples of 64 KiB."""
        first = group * self.layout.inodes_per_group + 1
        end = min(first + self.layout.inodes_per_group, self.numbering.last_inode + 1)
        start = first
        while start < end:
            place = offset + (start - first) * INODE_SIZE
            stop = min(end, start + _INODES_PER_PIECE - place // INODE_SIZE % _INODES_PER_PIECE)
            yield Piece(place, (stop - start) * INODE_SIZE, partial(self._make_inodes, start, stop))
            start = stop

    def _make_inodes(self, first: int, end: int) -> bytearray:
        node_of = self.numbering.node_of
        part = bytearray()
        for inode in range(first, end):
            if inode < FIRST_INODE:
                part += self._make_reserved_inode(inode)
                continue
            node = node_of[inode - FIRST_INODE]
            part += self._make_node_inode(inode, node) if node != NO_NODE else self._make_lost_and_found()
        return part

    def _make_node_inode(self, inode: int, node: int) -> bytearray:
        tree, content = self.content.tree, self.content
        mode, size = tree.mode[node], tree.size[node]
        kind = mode & 0xF000
        flags = FLAG_EXTENTS
        links = 1
        sectors = 0
        block = EMPTY_ROOT
        if kind == stat.S_IFREG:
            if size and (tree.data_source[node] >= 0 or content.ranges.get(node)):
                block, sectors = content.block_root(node, (size + BLOCK_SIZE - 1) // BLOCK_SIZE)
            links = self.numbering.several_links.get(node, 1)
        elif kind == stat.S_IFDIR:
            hashed = content.hashed.get(node)
            blocks = 1 if hashed is None else len(hashed)
            if hashed is not None:
                flags |= FLAG_INDEX
            size = blocks * BLOCK_SIZE
            block, sectors = content.block_root(node, blocks)
            links = self.numbering.directory_links(node)
        else:
            links = self.numbering.several_links.get(node, 1)
            if kind == stat.S_IFLNK and size > FAST_SYMLINK_BYTES:
                block, sectors = content.block_root(node, 1)
            else:
                flags = 0
                if kind == stat.S_IFLNK:
                    block = tree.link_target[node]
                elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                    block = encode_device(tree.rdev_major[node], tree.rdev_minor[node])
                else:
                    block = b""
        area = b""
        xattr_block = 0
        xattrs = tree.xattrs.get(node)
        if xattrs:
            area = content.stored_xattrs[xattrs].inode_area
            shared = content.xattr_block_of.get(node)
            if shared is not None:
                xattr_block = shared.block
                sectors += 8
        return make_inode(
            make_inode_state(self.volume.state, inode), mode=mode, uid=tree.uid[node], gid=tree.gid[node], size=size,
            time=encode_time(tree.mtime[node], tree.mtime_nanoseconds[node]), links=links, sectors=sectors,
            flags=flags, block=block, xattr_block=xattr_block, xattr_area=area,
        )  # fmt: skip

    def _make_own_inode(
        self,
        inode: int,
        mode: int,
        size: int,
        blocks: int,
        root: bytes,
        flags: int = FLAG_EXTENTS,
        links: int = 1,
    ) -> bytearray:
        return make_inode(
            make_inode_state(self.volume.state, inode), mode=mode, uid=0, gid=0, size=size,
            time=encode_time(self.volume.timestamp, 0), links=links, sectors=blocks * 8, flags=flags, block=root,
        )  # fmt: skip

    def _make_reserved_inode(self, inode: int) -> bytearray:
        """Inodes 1 to 10: the root, the journal, the resize inode; the others are empty."""
        if inode == ROOT_INODE:
            return self._make_node_inode(ROOT_INODE, ROOT)
        if inode == JOURNAL:
            size = self.layout.journal_blocks * BLOCK_SIZE
            return self._make_own_inode(
                JOURNAL, 0o100600, size, self.layout.journal_blocks, self.journal_root
            )
        if inode == RESIZE and self.resize_index:
            reserved = self.layout.reserved_descriptor_blocks
            root = bytes(13 * 4) + self.resize_index.to_bytes(4, "little") + bytes(4)
            blocks = 1 + reserved * len(self.layout.superblock_groups)
            return self._make_own_inode(RESIZE, 0o100600, _RESIZE_SIZE, blocks, root, flags=0)
        return bytearray(INODE_SIZE)

    def _make_lost_and_found(self) -> bytearray:
        root, _ = make_tree(self.content.lost_and_found, 0, _no_block)
        size = LOST_AND_FOUND_BLOCKS * BLOCK_SIZE
        return self._make_own_inode(FIRST_INODE, 0o40700, size, LOST_AND_FOUND_BLOCKS, root, links=2)


def _no_block() -> int:
    raise AssertionError("at most four extents fit the inode")


def plan_ext4(
    tree: FileTree,
    *,
    size_bytes: int | None = None,
    timestamp: int = 0,
    label: str = "",
    uuid: bytes | None = None,
) -> Ext4Image:
    """Plan a file system of `size_bytes` (None: 10 GiB, more if the content needs it) that holds `tree`.

    `timestamp` (SOURCE_DATE_EPOCH) is the file system's own time of creation. UUID and hash seed come from the
    tree's metadata, or from `uuid`. The tree must not change until the pieces have been read. Raises InvalidInput
    where the content does not fit, or ext4 cannot hold it.
    """
    volume = _make_volume(tree, timestamp, label, uuid)
    numbering = number_inodes(tree)
    content = Content(tree, numbering, volume)
    content_blocks = content.measure()
    layout = _choose_layout(size_bytes, content_blocks, numbering.last_inode)

    allocator = Allocator(layout)
    content.place(allocator, spread=_has_room_to_spread(tree, content_blocks, layout))
    resize_index = allocator.allocate(1)[0][0] if layout.reserved_descriptor_blocks else 0
    journal = allocator.allocate_extents([(0, layout.journal_blocks)])
    journal_root, _ = make_tree(journal, 0, _no_block)
    groups = make_groups(
        layout, volume, allocator, numbering.last_inode, _count_directories(layout, numbering)
    )
    image_size = size_bytes if size_bytes is not None else layout.blocks * BLOCK_SIZE
    return Ext4Image(
        image_size, layout, volume, content, numbering, groups, journal, journal_root, resize_index
    )  # fmt: skip


def _choose_layout(size_bytes: int | None, content_blocks: int, last_inode: int) -> Layout:
    if size_bytes is None:
        # A quarter of the content as free space at least, and whole GiB.
        wanted = max(content_blocks * BLOCK_SIZE * 5 // 4 + _GIB // 4, last_inode * 8192)
        size_bytes = max(DEFAULT_SIZE_BYTES, -(-wanted // _GIB) * _GIB)
    layout = plan_layout(size_bytes, last_inode + last_inode // 8)
    metadata_blocks = _count_metadata(layout)
    if content_blocks + metadata_blocks > layout.blocks:
        needed = (content_blocks + metadata_blocks) * BLOCK_SIZE
        raise InvalidInput(
            f"cannot fit {needed >> 20} MiB of files and metadata into a disk of {size_bytes >> 20} MiB",
            resolution=f"set disk_size to {-(-needed * 5 // 4 >> 20) + 64}M or more, or leave it out",
        )
    return layout


def _count_metadata(layout: Layout) -> int:
    return sum(count for _, count in layout.fixed) + layout.journal_blocks + 1


def _has_room_to_spread(tree: FileTree, content_blocks: int, layout: Layout) -> bool:
    """Whether blocks may be left free between files and half of the disk is still free behind them."""
    stretches = sum((origin.length >> SPREAD_BITS) + 1 for origin in tree.origins)
    stretches += len(tree.sources) + (content_blocks * BLOCK_SIZE >> SPREAD_BITS)
    return content_blocks + _count_metadata(layout) + SPREAD_BLOCKS * stretches <= layout.blocks // 2


def _count_directories(layout: Layout, numbering: Numbering) -> list[int]:
    counts = [0] * layout.groups
    per_group = layout.inodes_per_group
    for node in numbering.directories:
        counts[(numbering.inode_of[node] - 1) // per_group] += 1
    if numbering.adds_lost_and_found:
        counts[0] += 1
    return counts


def _make_volume(tree: FileTree, timestamp: int, label: str, given: bytes | None) -> Volume:
    digest = hashlib.sha256(given or b"")
    for column in (tree.mode, tree.uid, tree.gid, tree.mtime, tree.mtime_nanoseconds, tree.size):
        digest.update(column)
    for node in sorted(tree.children):
        digest.update(b"%d\0" % node)
        digest.update(b"\0".join(sorted(tree.children[node])))
    raw = bytearray(digest.digest())
    for start in (0, 16):
        # RFC 9562, version 8: a UUID made from whatever the application likes.
        raw[start + 6] = raw[start + 6] & 0x0F | 0x80
        raw[start + 8] = raw[start + 8] & 0x3F | 0x80
    uuid, hash_seed = given or bytes(raw[:16]), bytes(raw[16:])
    name = label.encode()[:16]
    return Volume(uuid, hash_seed, make_volume_state(uuid), name, timestamp)
