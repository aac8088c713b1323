# SPDX-License-Identifier: Apache-2.0
"""A short, seeded run of the fuzz targets; tests/fuzz/fuzz_fledge.py is the long, coverage-guided one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.targets import TARGETS

INTERESTING = (
    b"\0",
    b"/",
    b"..",
    b".wh.",
    b"7",
    b"\x80",
    b"\xff",
    b"5",
    b"2",
    b"1",
    b"S",
    b"x",
    b"L",
    b"\n",
    b"99999999999",
)


def mutate(seeds: list[bytes], count: int) -> Iterator[bytes]:
    chosen = random.Random(20_240_229)
    for _ in range(count):
        changed = bytearray(chosen.choice(seeds))
        for _ in range(chosen.choice((1, 2, 5, 20))):
            place = chosen.randrange(len(changed))
            match chosen.randrange(5):
                case 0:
                    changed[place] ^= 1 << chosen.randrange(8)
                case 1 | 2:
                    value = chosen.choice(INTERESTING)
                    changed[place : place + len(value)] = value
                case 3:
                    start = chosen.randrange(len(changed)) & ~511
                    changed[place & ~511 : place & ~511] = changed[start : start + 512 * chosen.randint(1, 4)]
                case _:
                    del changed[place & ~511 : (place & ~511) + 512]
            if len(changed) < 512:
                break
        yield bytes(changed)


@pytest.mark.parametrize(
    ("name", "count"), [("layers", 600), ("archive", 200), ("plugin", 400), ("recipe", 200)]
)
def test_mutated_seeds_keep_every_promise(name: str, count: int, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = target.make_seeds(tmp_path)
    for data in (*seeds, *mutate(seeds, count)):
        target.run(data)
