# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.errors import InvalidInput
from volant.filesystems.ext4.layout import MAX_EXTENT_BLOCKS, Allocator, has_superblock, plan_layout

MIB = 1 << 20


def test_superblock_copies_lie_in_groups_0_1_and_powers_of_3_5_7() -> None:
    assert [group for group in range(130) if has_superblock(group)] == [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]


@settings(max_examples=40, deadline=None)
@given(st.integers(16 * MIB, 1 << 41), st.integers(1, 200_000))
def test_metadata_never_overlap_and_stay_inside(size_bytes: int, inodes: int) -> None:
    try:
        layout = plan_layout(size_bytes, inodes)
    except InvalidInput:
        assert inodes * 256 > size_bytes // 64 or size_bytes < 64 * MIB
        return
    end = 0
    for start, count in layout.fixed:
        assert start >= end
        end = start + count
    assert end <= layout.blocks <= size_bytes // 4096
    assert layout.inodes_per_group * layout.groups >= inodes
    runs = len(layout.superblock_groups) * layout.superblock_run
    total = runs + layout.groups * (2 + layout.table_blocks)
    assert sum(count for _, count in layout.fixed) == total


def test_the_allocator_gives_each_free_block_once_and_in_order() -> None:
    layout = plan_layout(1 << 30, 1000)
    allocator = Allocator(layout)
    free = layout.blocks - sum(count for _, count in layout.fixed)
    taken = [run for size in (1, 5, 40_000, 3) for run in allocator.allocate(size)]
    assert all(length <= MAX_EXTENT_BLOCKS for _, length in taken)
    blocks = [block for start, length in taken for block in range(start, start + length)]
    fixed = {block for start, length in layout.fixed for block in range(start, start + length)}
    assert blocks == sorted(set(blocks)) and not fixed.intersection(blocks)
    assert set(range(allocator.used_below)) - fixed == set(blocks)
    with pytest.raises(InvalidInput, match="cannot fit"):
        allocator.allocate(free)


def test_a_last_group_too_short_to_be_of_use_is_left_out() -> None:
    assert plan_layout((128 << 20) * 2 + 40 * 4096, 100).groups == 2


def test_too_small_a_disk_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too small"):
        plan_layout(1 << 20, 10)
