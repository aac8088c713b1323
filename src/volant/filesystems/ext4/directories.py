# SPDX-License-Identifier: Apache-2.0
"""Directory blocks: one linear block for small directories, a hash tree for all others (dir_index)."""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping, Sequence

from volant.errors import InvalidInput
from volant.filesystems.ext4.checksums import extend, stored
from volant.filesystems.ext4.directory_hash import HALF_MD4, hash_names
from volant.filesystems.ext4.layout import BLOCK_SIZE

_ENTRY = struct.Struct("<IHBB")
_TAIL_BYTES = 12
_TAIL = struct.Struct("<IHBBI")
_TAIL_TYPE = 0xDE
_INDEX_ENTRY = struct.Struct("<II")
_ROOT_OFFSET = 32
_NODE_OFFSET = 8
_ROOT_LIMIT = (BLOCK_SIZE - _ROOT_OFFSET - 8) // 8
_NODE_LIMIT = (BLOCK_SIZE - _NODE_OFFSET - 8) // 8
# A hash tree's leaves keep some room, so that the first files made in the guest don't split every block.
_LEAF_FILL = (BLOCK_SIZE - _TAIL_BYTES) * 9 // 10
_FILE_TYPES = {
    stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3, stat.S_IFBLK: 4, stat.S_IFIFO: 5, stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}  # fmt: skip

LinearEntry = tuple[bytes, int, int]  # name, inode, file type


def file_type(mode: int) -> int:
    """The type byte of a directory entry."""
    return _FILE_TYPES[stat.S_IFMT(mode)]


def is_small(names: Mapping[bytes, int]) -> bool:
    """Whether the entries fit one block, with ".", ".." and the checksum."""
    count = len(names)
    if count > 340:
        return False
    # 8 bytes and the name, rounded up to 4: 11 a name at the most.
    upper = 24 + _TAIL_BYTES + sum(map(len, names)) + 11 * count
    if upper <= BLOCK_SIZE:
        return True
    return 24 + _TAIL_BYTES + sum((len(name) + 11) & ~3 for name in names) <= BLOCK_SIZE


def make_small_directory(entries: Sequence[LinearEntry], inode: int, parent: int, inode_state: int) -> bytes:
    """The only block of a directory: ".", ".." and the entries in the order given."""
    return _make_leaf([(b".", inode, 2), (b"..", parent, 2), *entries], inode_state)


def _make_leaf(entries: Sequence[LinearEntry], inode_state: int) -> bytes:
    pack = _ENTRY.pack
    parts: list[bytes] = []
    space = BLOCK_SIZE - _TAIL_BYTES
    last = len(entries) - 1
    for index, (name, inode, kind) in enumerate(entries):
        length = (len(name) + 11) & ~3 if index < last else space
        parts.append(pack(inode, length, len(name), kind))
        parts.append(name.ljust(length - 8, b"\0"))
        space -= length
    if not entries:
        parts.append(pack(0, space, 0, 0).ljust(space, b"\0"))
    block = b"".join(parts)
    return block + _TAIL.pack(0, _TAIL_BYTES, 0, _TAIL_TYPE, stored(extend(inode_state, block)))


def make_empty_leaf(inode_state: int) -> bytes:
    return _make_leaf((), inode_state)


def make_hashed_directory(
    entries: Sequence[LinearEntry], inode: int, parent: int, inode_state: int, seed: Sequence[int]
) -> list[bytes]:
    """All blocks of a directory with a hash tree: the root first, then leaves, then inner nodes."""
    hashes = hash_names([entry[0] for entry in entries], seed)
    order = sorted(range(len(entries)), key=hashes.__getitem__)
    leaves: list[bytes] = []
    first_hashes: list[int] = []
    pending: list[LinearEntry] = []
    filled = 0
    previous = 0
    for index in order:
        name = entries[index][0]
        length = (len(name) + 11) & ~3
        major = hashes[index][0]
        if not pending:
            # A hash that continues from the block before is marked by its lowest bit.
            first_hashes.append(major | 1 if leaves and major == previous else major)
        elif filled + length > _LEAF_FILL:
            leaves.append(_make_leaf(pending, inode_state))
            pending, filled = [], 0
            first_hashes.append(major | 1 if major == previous else major)
        pending.append(entries[index])
        filled += length
        previous = major
    leaves.append(_make_leaf(pending, inode_state))

    children = [(first_hashes[number], number + 1) for number in range(len(leaves))]
    nodes: list[bytes] = []
    levels = 0
    if len(children) > _ROOT_LIMIT:
        upper: list[tuple[int, int]] = []
        for first in range(0, len(children), _NODE_LIMIT):
            part = children[first : first + _NODE_LIMIT]
            upper.append((part[0][0], 1 + len(leaves) + len(nodes)))
            head = _ENTRY.pack(0, BLOCK_SIZE, 0, 0)
            nodes.append(_make_index(head, part, _NODE_LIMIT, inode_state))
        children = upper
        levels = 1
        if len(children) > _ROOT_LIMIT:
            raise InvalidInput(
                f"cannot hold a directory of {len(entries)} entries: ext4's hash tree ends earlier"
            )
    head = (
        _ENTRY.pack(inode, 12, 1, 2) + b".\0\0\0" + _ENTRY.pack(parent, BLOCK_SIZE - 12, 2, 2) + b"..\0\0"
        + struct.pack("<IBBBB", 0, HALF_MD4, 8, levels, 0)
    )  # fmt: skip
    return [_make_index(head, children, _ROOT_LIMIT, inode_state), *leaves, *nodes]


def _make_index(head: bytes, children: Sequence[tuple[int, int]], limit: int, inode_state: int) -> bytes:
    """A root or node: `head`, then the count and the first child where its hash would be, then the others."""
    parts = [head, struct.pack("<HHI", limit, len(children), children[0][1])]
    parts += [_INDEX_ENTRY.pack(hash_, block) for hash_, block in children[1:]]
    used = b"".join(parts)
    checksum = stored(extend(extend(inode_state, used), bytes(8)))
    return used.ljust(BLOCK_SIZE - 8, b"\0") + struct.pack("<II", 0, checksum)
