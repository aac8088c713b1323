# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.fledge.stored_gzip import START_SUM, StoredGzip, sum_blocks

BLOCK = 65535
SIZES = st.sampled_from([0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 16 * BLOCK, 17 * BLOCK + 5])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(SIZES, max_size=5),
    st.integers(0, 40 * BLOCK),
    st.integers(0, 3 * BLOCK),
    st.integers(0, 3 * BLOCK),
)
def test_what_is_appended_and_patched_is_what_gzip_reads(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], position: int, length: int, offset: int
) -> None:
    path = tmp_path_factory.mktemp("gzip") / "file.gz"
    content = bytearray()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    with StoredGzip(descriptor, want_sum=True) as archive:
        for number, size in enumerate(sizes):
            part = bytes((number + 1,)) * size
            archive.append(part)
            content += part
            if offset <= min(position, len(content)):
                # What lies before the patch is settled, as far as it is there.
                archive.begin_hash(offset, min(position, len(content)))
        length = min(length, max(0, len(content) - position))
        if length:
            archive.patch(position, b"\xff" * length)
            content[position : position + length] = b"\xff" * length
        offset = min(offset, len(content))
        digest, crc = archive.hash_from(offset)
        assert (digest, crc) == (hashlib.sha256(content[offset:]).hexdigest(), zlib.crc32(content[offset:]))
        archive.append(b"end")
        content += b"end"
        archive.finish(zlib.crc32(content))
    start, end, total = archive.summed or (0, 0, START_SUM)
    assert sum_blocks(descriptor, start, end) == total
    assert len(content) - (end - start) // (BLOCK + 5) * BLOCK < 2 * BLOCK + offset + 3
    os.close(descriptor)
    assert gzip.decompress(path.read_bytes()) == content
    assert path.stat().st_size <= len(content) + 5 * (len(content) // BLOCK + 1) + 18


def test_the_file_says_nothing_of_time_or_place(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    StoredGzip(descriptor).finish(0)
    assert os.pread(descriptor, 10, 0) == bytes.fromhex("1f8b08000000000000ff")
    os.close(descriptor)


def test_a_block_that_was_damaged_has_another_sum_or_none(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with StoredGzip(descriptor, want_sum=True) as archive:
        archive.append(os.urandom(5 * BLOCK + 10))
        archive.hash_from(7)
        archive.append(b"end")
        archive.finish(0)
    assert archive.summed is not None
    start, end, total = archive.summed
    assert (end - start) == 4 * (BLOCK + 5)
    for place in (start, start + 4, start + 5, start + BLOCK + 7, end - BLOCK - 5, end - 1):
        before = os.pread(descriptor, 1, place)
        os.pwrite(descriptor, bytes((before[0] ^ 1,)), place)
        with suppress(OSError):
            assert sum_blocks(descriptor, start, end) != total
        os.pwrite(descriptor, before, place)
    assert sum_blocks(descriptor, start, end) == total
    with pytest.raises(OSError, match="shorter"):
        sum_blocks(descriptor, start, end + 9 * (BLOCK + 5))
    os.close(descriptor)
