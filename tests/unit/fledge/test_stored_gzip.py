# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.fledge.stored_gzip import StoredGzip

BLOCK = 65535
SIZES = st.sampled_from([0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 16 * BLOCK, 17 * BLOCK + 5])


@settings(max_examples=40, deadline=None)
@given(st.lists(SIZES, max_size=5), st.integers(0, 40 * BLOCK), st.integers(0, 3 * BLOCK))
def test_what_is_appended_and_patched_is_what_gzip_reads(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], position: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("gzip") / "file.gz"
    content = bytearray()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    archive = StoredGzip(descriptor)
    for number, size in enumerate(sizes):
        part = bytes((number + 1,)) * size
        archive.append(part)
        content += part
    length = min(length, max(0, len(content) - position))
    if length:
        archive.patch(position, b"\xff" * length)
        content[position : position + length] = b"\xff" * length
    offset = len(content) // 3
    digest, crc = archive.hash_from(offset)
    assert (digest, crc) == (hashlib.sha256(content[offset:]).hexdigest(), zlib.crc32(content[offset:]))
    archive.finish(zlib.crc32(content))
    os.close(descriptor)
    assert gzip.decompress(path.read_bytes()) == content
    assert path.stat().st_size <= len(content) + 5 * (len(content) // BLOCK + 1) + 18


def test_the_file_says_nothing_of_time_or_place(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    StoredGzip(descriptor).finish(0)
    assert os.pread(descriptor, 10, 0) == bytes.fromhex("1f8b08000000000000ff")
    os.close(descriptor)
