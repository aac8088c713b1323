# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import struct

import pytest

from volant.filesystems.ext4.extents import count_tree_blocks, make_single_root, make_tree
from volant.filesystems.ext4.layout import BlockExtent


def read_tree(node: bytes, blocks: dict[int, bytes]) -> list[BlockExtent]:
    magic, entries, _, depth, _ = struct.unpack_from("<HHHHI", node)
    assert magic == 0xF30A
    found: list[BlockExtent] = []
    for index in range(entries):
        raw = node[12 + index * 12 : 24 + index * 12]
        if depth:
            logical, low, high, _ = struct.unpack("<IIHH", raw)
            below = read_tree(blocks[high << 32 | low], blocks)
            assert below[0].logical == logical
            found += below
        else:
            logical, length, high, low = struct.unpack("<IHHI", raw)
            found.append(BlockExtent(logical, high << 32 | low, length))
    return found


@pytest.mark.parametrize("count", [1, 4, 5, 340, 341, 1360, 1361, 2000])
def test_every_extent_is_found_again(count: int) -> None:
    extents = [BlockExtent(number * 10, (1 << 33) + number * 7, 3) for number in range(count)]
    numbers = itertools.count(50)
    root, blocks = make_tree(extents, 0, lambda: next(numbers))
    assert len(root) == 60
    assert len(blocks) == count_tree_blocks(count)
    assert all(len(block.content) == 4096 for block in blocks)
    assert read_tree(root, {block.block: block.content for block in blocks}) == extents


def test_the_short_way_is_the_same() -> None:
    root, _ = make_tree([BlockExtent(0, 1 << 34 | 77, 12)], 0, lambda: 0)
    assert make_single_root(1 << 34 | 77, 12) == root
