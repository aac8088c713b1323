# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import zstandard

from volant.errors import InvalidInput, StorageFull
from volant.fledge.spool import (
    SpoolBudget,
    find_compression,
    find_spool_folder,
    inflate,
    open_spool,
)

CONTENT = os.urandom(3000) + bytes(2 << 20) + b"end"
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


def run_inflate(
    stored: bytes, folder: Path, *, diff_id: str | None = None, limit_bytes: int = 1 << 30
) -> bytes:
    """What inflating `stored`, which lies at an offset in a file, leaves in a spool."""
    path = folder / "stored"
    path.write_bytes(b"before" + stored + b"after")
    with ExitStack() as stack:
        source = stack.enter_context(path.open("rb")).fileno()
        spool = open_spool(stack)
        compression = find_compression(source, 6, len(stored), "it")
        size = inflate(
            "it", compression, source, 6, len(stored),
            diff_id=diff_id, spool=spool, budget=SpoolBudget(limit_bytes),
        )  # fmt: skip
        assert os.fstat(spool).st_size == size
        return os.pread(spool, size + 1, 0)


@pytest.mark.parametrize(
    "stored",
    [
        gzip.compress(CONTENT),
        gzip.compress(CONTENT[:5000]) + gzip.compress(CONTENT[5000:]),
        zstandard.compress(CONTENT),
        zstandard.compress(CONTENT[:5000]) + SKIPPABLE + zstandard.compress(CONTENT[5000:]),
        SKIPPABLE + zstandard.compress(CONTENT),
    ],
    ids=["gzip", "gzip members", "zstd", "zstd frames", "zstd after a skippable frame"],
)
def test_streams_are_inflated_and_their_digest_checked(stored: bytes, tmp_path: Path) -> None:
    digest = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    assert run_inflate(stored, tmp_path, diff_id=digest) == CONTENT


@pytest.mark.parametrize(
    "stored",
    [gzip.compress(CONTENT)[:-500], gzip.compress(CONTENT)[:-8] + b"12345678", b"\x1f\x8b" + b"x" * 100,
     b"\x28\xb5\x2f\xfd" + b"x" * 100, gzip.compress(b"x") + b"garbage"],
)  # fmt: skip
def test_damaged_streams(stored: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="stream is damaged"):
        run_inflate(stored, tmp_path)


def test_truncated_zstd_is_found_by_the_digest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        run_inflate(zstandard.compress(CONTENT)[:-20], tmp_path, diff_id="sha256:" + "0" * 64)


def test_a_zstd_window_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, compression_level=1)
    stored = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(10))
    huge = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    stored = huge.compress(b"x") + huge.flush()
    with pytest.raises(InvalidInput, match="damaged"):
        run_inflate(stored, tmp_path)


def test_budget_is_shared_and_a_disk_that_is_full_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="grow beyond 1 MiB"):
        run_inflate(gzip.compress(CONTENT), tmp_path, limit_bytes=1 << 20)
    path = tmp_path / "stored"
    path.write_bytes(gzip.compress(os.urandom(3000)))
    with (
        path.open("rb") as source,
        Path("/dev/full").open("wb") as full,
        pytest.raises(StorageFull, match="No space left"),
    ):
        inflate("it", "gzip", source.fileno(), 0, path.stat().st_size,
                diff_id=None, spool=full.fileno(), budget=SpoolBudget(1 << 30))  # fmt: skip


@pytest.mark.parametrize(("start", "name"), [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0\0", "xz")])
def test_compressions_that_are_not_read_are_named(start: bytes, name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=name):
        run_inflate(start, tmp_path)


def test_spools_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert find_spool_folder() == tmp_path
    with ExitStack() as stack:
        os.pwrite(open_spool(stack), b"x", 0)
        assert os.listdir(tmp_path) == [], "a spool has no name"
    assert os.listdir(tmp_path) == []
