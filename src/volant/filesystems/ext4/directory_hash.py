# SPDX-License-Identifier: Apache-2.0
"""The half-MD4 hash of directory entries (kernel: fs/ext4/hash.c), for thousands of names at once.

Every name is one 64-bit lane of a few large integers, so one Python operation works on all names; 32 spare bits a
lane take the carries. That makes it about as fast as C, and needs no library. Names count as unsigned characters;
the superblock says so (the kernel obeys either way).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

HALF_MD4 = 1
_BATCH = 2048
_K2 = 0x5A827999
_K3 = 0x6ED9EBA1
_END_OF_FILE = 0xFFFFFFFE
# Per round: constant, the word order and the rotations.
_ROUNDS = (
    (0, (0, 1, 2, 3, 4, 5, 6, 7), (3, 7, 11, 19)),
    (_K2, (1, 3, 5, 7, 0, 2, 4, 6), (3, 5, 9, 13)),
    (_K3, (3, 7, 2, 6, 1, 5, 0, 4), (3, 9, 11, 15)),
)


def hash_names(names: Sequence[bytes], seed: Sequence[int]) -> list[tuple[int, int]]:
    """(hash, minor hash) of each name; `seed` is the superblock's, four words."""
    hashes: list[tuple[int, int]] = [(0, 0)] * len(names)
    by_chunks: dict[int, list[int]] = {}
    for index, name in enumerate(names):
        by_chunks.setdefault((len(name) + 31) >> 5, []).append(index)
    for chunks, indexes in by_chunks.items():
        for first in range(0, len(indexes), _BATCH):
            part = indexes[first : first + _BATCH]
            words = _hash_batch([names[index] for index in part], chunks, seed)
            for index, (major, minor) in zip(part, words, strict=True):
                major &= ~1
                hashes[index] = (major if major != _END_OF_FILE else _END_OF_FILE - 2, minor)
    return hashes


def _pad_chunk(part: bytes, remaining: int) -> bytes:
    """32 bytes of big-endian words: a last, short word has the padding before its bytes."""
    if remaining >= 32:
        return part
    pad = bytes((remaining,))
    short = remaining & 3
    if short:
        part = part[: remaining - short] + pad * (4 - short) + part[remaining - short :]
    return part.ljust(32, pad)


def _hash_batch(names: Sequence[bytes], chunks: int, seed: Sequence[int]) -> list[tuple[int, int]]:
    count = len(names)
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    mask = ones * 0xFFFFFFFF
    state = [ones * word for word in seed]
    for chunk in range(chunks):
        start = chunk * 32
        block = array(
            "I", b"".join(_pad_chunk(name[start : start + 32], len(name) - start) for name in names)
        )
        if sys.byteorder == "little":
            block.byteswap()
        words = [int.from_bytes(array("Q", block[word::8]).tobytes(), sys.byteorder) for word in range(8)]
        state = _transform(state, words, ones, mask)
    return list(zip(_lanes(state[1], count), _lanes(state[2], count), strict=True))


def _lanes(value: int, count: int) -> array[int]:
    lanes = array("Q")
    lanes.frombytes(value.to_bytes(count * 8, sys.byteorder))
    return lanes


def _transform(state: list[int], words: list[int], ones: int, mask: int) -> list[int]:
    a, b, c, d = state
    for number, (constant, order, shifts) in enumerate(_ROUNDS):
        constants = ones * constant
        for step, word in enumerate(order):
            if number == 0:
                mixed = d ^ (b & (c ^ d))
            elif number == 1:
                mixed = (b & c) + ((b ^ c) & d)
            else:
                mixed = b ^ c ^ d
            shift = shifts[step & 3]
            total = (a + mixed + words[word] + constants) & mask
            rotated = ((total << shift) | (total >> (32 - shift))) & mask
            a, b, c, d = d, rotated, b, c
    return [(old + new) & mask for old, new in zip(state, (a, b, c, d), strict=True)]
