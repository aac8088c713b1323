# SPDX-License-Identifier: Apache-2.0
"""Places what inodes own: directory blocks, shared xattr blocks, long symlinks, file data, extent tree blocks.

Data lie in the order of their sources, so that writing the image reads each layer from front to back.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from volant.errors import InvalidInput
from volant.filesystems.blocks import Piece
from volant.filesystems.ext4.checksums import make_inode_state
from volant.filesystems.ext4.directories import (
    LinearEntry,
    file_type,
    is_small,
    make_empty_leaf,
    make_hashed_directory,
    make_small_directory,
)
from volant.filesystems.ext4.extents import (
    TreeBlock,
    count_tree_blocks,
    make_single_root,
    make_tree,
)
from volant.filesystems.ext4.inodes import ROOT as ROOT_INODE
from volant.filesystems.ext4.layout import (
    BLOCK_SIZE,
    FIRST_INODE,
    MAX_EXTENT_BLOCKS,
    Allocator,
    BlockExtent,
    Run,
)
from volant.filesystems.ext4.numbering import LOST_AND_FOUND, Numbering
from volant.filesystems.ext4.superblock import Volume
from volant.filesystems.ext4.xattrs import MAX_REFERENCES, StoredXattrs, make_xattr_block, plan_xattrs
from volant.filesystems.filetree import ROOT, Extent, FileTree, Xattrs

FAST_SYMLINK_BYTES = 59
LOST_AND_FOUND_BLOCKS = 4
# The files of each 16 MiB of a layer begin at a multiple of 1 MiB. What is more or less there than before moves those
# behind it by whole windows, if at all: they are still the windows of the disk before (reuse.py).
SPREAD_BITS = 24
SPREAD_BLOCKS = 256
_MOST_FILE_BLOCKS = (1 << 32) - 1


@dataclass
class XattrBlock:
    stored: StoredXattrs
    references: int = 0
    block: int = 0


@dataclass
class Content:
    """Where everything is. `first_block` is a column by node; what is not in one run is in `extents` and `roots`."""

    tree: FileTree
    numbering: Numbering
    volume: Volume
    first_block: array[int] = field(init=False)
    files: array[int] = field(init=False)
    file_blocks: int = 0
    long_symlinks: list[int] = field(default_factory=list)
    hashed: dict[int, list[bytes]] = field(default_factory=dict)
    stored_xattrs: dict[Xattrs, StoredXattrs] = field(default_factory=dict)
    xattr_blocks: list[XattrBlock] = field(default_factory=list)
    xattr_block_of: dict[int, XattrBlock] = field(default_factory=dict)
    ranges: dict[int, list[Run]] = field(default_factory=dict)  # logical (first, count) of sparse files
    extents: dict[int, list[BlockExtent]] = field(default_factory=dict)
    roots: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # node → i_block, tree blocks
    tree_blocks: list[TreeBlock] = field(default_factory=list)
    lost_and_found: list[BlockExtent] = field(default_factory=list)

    # -- before the layout: how much there is --------------------------------------------------------------------

    def measure(self) -> int:
        """Find out how many blocks everything needs."""
        tree, inode_of = self.tree, self.numbering.inode_of
        self.first_block = array("Q", bytes(8 * len(tree.mode)))
        self._plan_xattr_blocks()
        directory_blocks = LOST_AND_FOUND_BLOCKS if self.numbering.adds_lost_and_found else 0
        for node in self.numbering.directories:
            names = tree.children[node]
            if node == ROOT and self.numbering.adds_lost_and_found:
                names = {**names, LOST_AND_FOUND: 0}
            if is_small(names):
                directory_blocks += 1
            else:
                inode = inode_of[node]
                self.hashed[node] = make_hashed_directory(
                    self.directory_entries(node), inode, self.numbering.parent_inode[node],
                    make_inode_state(self.volume.state, inode), self.volume.hash_seed_words,
                )  # fmt: skip
                directory_blocks += len(self.hashed[node])
        self.long_symlinks = sorted(
            (
                node
                for node, target in tree.link_target.items()
                if inode_of[node] and len(target) > FAST_SYMLINK_BYTES
            ),
            key=inode_of.__getitem__,
        )
        self._order_files()
        tree_blocks = sum(count_tree_blocks(len(ranges) + 8) for ranges in self.ranges.values())
        return (
            directory_blocks
            + len(self.xattr_blocks)
            + len(self.long_symlinks)
            + self.file_blocks
            + tree_blocks
        )

    def _plan_xattr_blocks(self) -> None:
        inode_of = self.numbering.inode_of
        open_blocks: dict[Xattrs, XattrBlock] = {}
        for node in sorted(self.tree.xattrs, key=inode_of.__getitem__):
            if not inode_of[node]:
                continue
            xattrs = self.tree.xattrs[node]
            stored = self.stored_xattrs.get(xattrs)
            if stored is None:
                try:
                    stored = self.stored_xattrs[xattrs] = plan_xattrs(xattrs)
                except InvalidInput as error:
                    raise _name_file(error, self.tree, node) from error
            if not stored.block_attributes:
                continue
            shared = open_blocks.get(xattrs)
            if shared is None or shared.references == MAX_REFERENCES:
                shared = open_blocks[xattrs] = XattrBlock(stored)
                self.xattr_blocks.append(shared)
            shared.references += 1
            self.xattr_block_of[node] = shared

    def _order_files(self) -> None:
        tree, inode_of = self.tree, self.numbering.inode_of
        total = 0
        keys: dict[int, int] = {}
        data_offset, size = tree.data_offset, tree.size
        nodes: list[int] = []
        for node, source in enumerate(tree.data_source):
            if source >= 0 and inode_of[node]:
                blocks = (size[node] + BLOCK_SIZE - 1) // BLOCK_SIZE
                if blocks > _MOST_FILE_BLOCKS:
                    raise _name_file(_too_large(size[node]), tree, node)
                total += blocks
                nodes.append(node)
        for node, pieces in tree.sparse.items():
            if not inode_of[node]:
                continue
            if size[node] > _MOST_FILE_BLOCKS * BLOCK_SIZE:
                raise _name_file(_too_large(size[node]), tree, node)
            ranges = self.ranges[node] = _block_ranges(pieces)
            total += sum(count for _, count in ranges)
            if ranges:
                nodes.append(node)
                keys[node] = pieces[0].source << 64 | pieces[0].offset
        source_of = tree.data_source

        def place_in_source(node: int) -> int:
            if source_of[node] >= 0:
                return source_of[node] << 64 | data_offset[node]
            return keys[node]

        nodes.sort(key=place_in_source)
        self.files = array("I", nodes)
        self.file_blocks = total

    def directory_entries(self, node: int) -> list[LinearEntry]:
        """Entries of a directory in byte order of their names."""
        tree, inode_of = self.tree, self.numbering.inode_of
        names, mode = tree.children[node], tree.mode
        entries = [(name, inode_of[names[name]], file_type(mode[names[name]])) for name in sorted(names)]
        if node == ROOT and self.numbering.adds_lost_and_found:
            entries.append((LOST_AND_FOUND, FIRST_INODE, 2))
            entries.sort()
        return entries

    # -- with the layout: where it goes --------------------------------------------------------------------------

    def place(self, allocator: Allocator, *, spread: bool = False) -> None:
        """Give everything its blocks, in the order in which `pieces` tells them.

        With `spread`, blocks are left free between some of the files.
        """
        for node in self.numbering.directories:
            self._place_run(node, len(self.hashed.get(node, (b"",))), allocator)
        if self.numbering.adds_lost_and_found:
            self.lost_and_found = allocator.allocate_extents([(0, LOST_AND_FOUND_BLOCKS)])
        for shared in self.xattr_blocks:
            shared.block = allocator.allocate(1)[0][0]
        for node in self.long_symlinks:
            self._place_run(node, 1, allocator)
        size, first_block, ranges_of = self.tree.size, self.first_block, self.ranges
        starts, source_of, offset_of = self.tree.source_starts, self.tree.data_source, self.tree.data_offset
        current, stretch_end = -1, 0
        for node in self.files:
            if spread:
                source, offset = source_of[node], offset_of[node]
                if source < 0:
                    _, source, offset, _ = self.tree.sparse[node][0]
                if source != current or offset >= stretch_end:
                    allocator.skip_to_multiple(SPREAD_BLOCKS)
                    current = source
                    stretch_end = starts[source] + (
                        ((offset - starts[source] >> SPREAD_BITS) + 1) << SPREAD_BITS
                    )
            ranges = ranges_of.get(node)
            if ranges is not None:
                self._place_ranges(node, ranges, allocator)
                continue
            blocks = (size[node] + BLOCK_SIZE - 1) // BLOCK_SIZE
            position = allocator.position
            if blocks <= allocator.limit - position and blocks <= MAX_EXTENT_BLOCKS:
                first_block[node] = position
                allocator.position = position + blocks
            else:
                self._place_ranges(node, [(0, blocks)], allocator)
        for node, extents in self.extents.items():
            state = make_inode_state(self.volume.state, self.numbering.inode_of[node])
            root, blocks_ = make_tree(extents, state, lambda: allocator.allocate(1)[0][0])
            self.roots[node] = root, len(blocks_)
            self.tree_blocks += blocks_

    def _place_run(self, node: int, blocks: int, allocator: Allocator) -> None:
        if blocks <= allocator.limit - allocator.position and blocks <= MAX_EXTENT_BLOCKS:
            self.first_block[node] = allocator.position
            allocator.position += blocks
        else:
            self._place_ranges(node, [(0, blocks)], allocator)

    def _place_ranges(self, node: int, ranges: list[Run], allocator: Allocator) -> None:
        self.extents[node] = allocator.allocate_extents(ranges)

    def block_root(self, node: int, blocks: int) -> tuple[bytes, int]:
        """(i_block of an inode of so many blocks in all, sectors in use)."""
        placed = self.roots.get(node)
        if placed is None:
            return make_single_root(self.first_block[node], blocks), blocks * 8
        root, tree_blocks = placed
        return root, (sum(extent.length for extent in self.extents[node]) + tree_blocks) * 8

    # -- pieces --------------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[Piece]:
        """All content, ascending."""
        tree = self.tree
        for node in self.numbering.directories:
            blocks = self.hashed.get(node)
            if blocks is None:
                # One block is one run.
                place = self.first_block[node] * BLOCK_SIZE
                yield Piece(place, BLOCK_SIZE, partial(self._make_small, node))
            else:
                yield from self._own_pieces(node, blocks)
        if self.numbering.adds_lost_and_found:
            yield from _block_pieces(self.lost_and_found, self._make_lost_and_found())
        for shared in self.xattr_blocks:
            data = make_xattr_block(
                shared.stored.block_attributes, shared.references, shared.block, self.volume.state
            )
            yield Piece(shared.block * BLOCK_SIZE, BLOCK_SIZE, data)
        for node in self.long_symlinks:
            yield from self._own_pieces(node, [tree.link_target[node]])
        sources, data_source, data_offset = tree.sources, tree.data_source, tree.data_offset
        first_block, size, extents_of = self.first_block, tree.size, self.extents
        new_tuple = tuple.__new__
        for node in self.files:
            extents = extents_of.get(node)
            if extents is None:
                # Without the Python-level __new__ of a named tuple: there may be millions.
                yield new_tuple(Piece, (
                    first_block[node] * BLOCK_SIZE, size[node], None, sources[data_source[node]], data_offset[node],
                ))  # fmt: skip
            else:
                yield from _map_pieces(tree.extents(node), extents, sources)
        for block in self.tree_blocks:
            yield Piece(block.block * BLOCK_SIZE, BLOCK_SIZE, block.content)

    def _own_pieces(self, node: int, blocks: list[bytes]) -> Iterator[Piece]:
        extents = self.extents.get(node)
        if extents is None:
            data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
            yield Piece(self.first_block[node] * BLOCK_SIZE, len(data), data)
        else:
            yield from _block_pieces(extents, blocks)

    def _make_small(self, node: int) -> bytes:
        inode = self.numbering.inode_of[node]
        return make_small_directory(
            self.directory_entries(node), inode, self.numbering.parent_inode[node],
            make_inode_state(self.volume.state, inode),
        )  # fmt: skip

    def _make_lost_and_found(self) -> list[bytes]:
        state = make_inode_state(self.volume.state, FIRST_INODE)
        first = make_small_directory((), FIRST_INODE, ROOT_INODE, state)
        return [first] + [make_empty_leaf(state)] * (LOST_AND_FOUND_BLOCKS - 1)


def _name_file(error: InvalidInput, tree: FileTree, node: int) -> InvalidInput:
    """The same error with the file that it is about; looked for only now, since paths are not kept."""
    path = next((path for path, found in tree.walk() if found == node), b"?")
    details = [f"file: /{path.decode('utf-8', 'backslashreplace')}", *error.details]
    return InvalidInput(error.what, details=details, resolution=error.resolution)


def _too_large(size: int) -> InvalidInput:
    return InvalidInput(f"cannot store a file of {size >> 40} TiB: ext4 ends at 16 TiB")


def _block_ranges(pieces: tuple[Extent, ...]) -> list[Run]:
    """The file's blocks that hold data, as (first, count) that do not touch."""
    ranges: list[Run] = []
    for position, _, _, length in pieces:
        if not length:
            continue
        first, end = position // BLOCK_SIZE, (position + length + BLOCK_SIZE - 1) // BLOCK_SIZE
        if ranges and first <= ranges[-1][0] + ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], end - ranges[-1][0])
        else:
            ranges.append((first, end - first))
    return ranges


def _map_pieces(
    pieces: tuple[Extent, ...], extents: list[BlockExtent], sources: list[int]
) -> Iterator[Piece]:
    """A file's pieces of content where its extents put them."""
    index = 0
    for position, source, offset, length in pieces:
        while length:
            logical, physical, count = extents[index]
            end = (logical + count) * BLOCK_SIZE
            if position >= end:
                index += 1
                continue
            take = min(length, end - position)
            target = physical * BLOCK_SIZE + position - logical * BLOCK_SIZE
            yield Piece(target, take, None, sources[source], offset)
            position += take
            offset += take
            length -= take


def _block_pieces(extents: list[BlockExtent], blocks: list[bytes]) -> Iterator[Piece]:
    for logical, physical, count in extents:
        data = b"".join(blocks[logical : logical + count])
        yield Piece(physical * BLOCK_SIZE, len(data), data)
