# SPDX-License-Identifier: Apache-2.0
"""Vectors come from debugfs (`dx_hash -h half_md4 -s UUID NAME`)."""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.filesystems.ext4.directory_hash import hash_names

SEED = struct.unpack("<4I", uuid.UUID("01234567-89ab-cdef-0123-456789abcdef").bytes)
NO_SEED = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)


def test_matches_debugfs_with_a_seed() -> None:
    assert hash_names([b"hello"], SEED) == [(0xA26E4A80, 0x97E5B7F7)]


def test_matches_debugfs_without_a_seed() -> None:
    assert hash_names([b"hello"], NO_SEED) == [(0x1746DA32, 0x420013B5)]


def transform(state: list[int], words: tuple[int, ...]) -> list[int]:
    """The kernel's rounds, one name at a time, as plain as they can be written."""
    a, b, c, d = state
    rounds = (
        (0, (0, 1, 2, 3, 4, 5, 6, 7), (3, 7, 11, 19), lambda x, y, z: z ^ (x & (y ^ z))),
        (0x5A827999, (1, 3, 5, 7, 0, 2, 4, 6), (3, 5, 9, 13), lambda x, y, z: (x & y) + ((x ^ y) & z)),
        (0x6ED9EBA1, (3, 7, 2, 6, 1, 5, 0, 4), (3, 9, 11, 15), lambda x, y, z: x ^ y ^ z),
    )
    for constant, order, shifts, mix in rounds:
        for step, word in enumerate(order):
            total = (a + mix(b, c, d) + words[word] + constant) & 0xFFFFFFFF
            shift = shifts[step % 4]
            a, b, c, d = d, ((total << shift) | (total >> (32 - shift))) & 0xFFFFFFFF, b, c
    return [(old + new) & 0xFFFFFFFF for old, new in zip(state, (a, b, c, d), strict=True)]


def hash_one(name: bytes, seed: tuple[int, ...]) -> tuple[int, int]:
    state = list(seed)
    position = 0
    while position < len(name):
        remaining = len(name) - position
        pad = remaining * 0x01010101
        words, value = [], pad & 0xFFFFFFFF
        for count, byte in enumerate(name[position : position + 32], 1):
            value = (byte + (value << 8)) & 0xFFFFFFFF
            if count % 4 == 0:
                words.append(value)
                value = pad & 0xFFFFFFFF
        if len(words) < 8:
            words.append(value)
        words += [pad & 0xFFFFFFFF] * (8 - len(words))
        state = transform(state, tuple(words))
        position += 32
    major = state[1] & ~1
    return (0xFFFFFFFC if major == 0xFFFFFFFE else major), state[2]


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=40))
def test_many_names_at_once_are_hashed_as_one_by_one(names: list[bytes]) -> None:
    assert hash_names(names, SEED) == [hash_one(name, SEED) for name in names]


@pytest.mark.parametrize("count", [2047, 2048, 2049])
def test_batches_do_not_mix(count: int) -> None:
    names = [b"file-%d" % number for number in range(count)]
    hashes = hash_names(names, SEED)
    for number in (0, count // 2, count - 1):
        assert hashes[number] == hash_one(names[number], SEED)
