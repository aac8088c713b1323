# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from volant.errors import InvalidInput
from volant.fledge.digests import DigestChecks
from volant.fledge.known_digests import KnownDigests, digest_file, seal

CONTENT = b"layer" * 10_000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of this test have lain still for a minute."""
    now = time.time
    monkeypatch.setattr("volant.fledge.known_digests.time.time", lambda: now() + 60)


def check(path: Path, folder: Path, read: list[int] | None = None) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    preadv = os.preadv
    with pytest.MonkeyPatch.context() as patch:
        if read is not None:
            patch.setattr(os, "preadv", lambda *given: read.append(0) or preadv(*given))
        try:
            with KnownDigests(folder) as known, DigestChecks(1) as checks:
                checks.known = known
                checks.add("layer", DIGEST, descriptor, 0, len(CONTENT))
                checks.verify()
        finally:
            os.close(descriptor)


def test_what_was_checked_is_not_read_again(layer: Path, tmp_path: Path, later: None) -> None:
    first: list[int] = []
    second: list[int] = []
    check(layer, tmp_path / "cache", first)
    check(layer, tmp_path / "cache", second)
    assert first and not second


def test_the_digest_of_a_file_is_known_until_it_changes(
    layer: Path, tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append("") or file_digest(*given))
    for content, times in ((CONTENT, 1), (CONTENT, 1), (CONTENT[1:], 2), (CONTENT[1:], 2)):
        if layer.read_bytes() != content:
            layer.write_bytes(content)
        with KnownDigests(tmp_path / "cache") as known:
            assert digest_file(layer, known) == "sha256:" + hashlib.sha256(content).hexdigest()
        assert len(hashed) == times
    assert digest_file(layer, None) == "sha256:" + hashlib.sha256(CONTENT[1:]).hexdigest()


def test_a_file_that_has_just_changed_is_read_again(layer: Path, tmp_path: Path) -> None:
    second: list[int] = []
    check(layer, tmp_path / "cache")
    check(layer, tmp_path / "cache", second)
    assert second, "a change within the clock's grain would not show"


def flip_in_place(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(777)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"!" + CONTENT[1:])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


def move_another_there(path: Path) -> None:
    path.rename(path.with_name("gone"))
    replace(path.with_name("gone"))
    path.with_name("gone").rename(path)


@pytest.mark.parametrize("change", [flip_in_place, replace, move_another_there])
def test_a_change_is_seen_whatever_the_time_says(
    layer: Path, tmp_path: Path, later: None, change: Callable[[Path], None]
) -> None:
    check(layer, tmp_path / "cache")
    change(layer)
    with pytest.raises(InvalidInput, match="not what its digest promises"):
        check(layer, tmp_path / "cache")


def test_other_stretches_and_other_digests_are_unknown(layer: Path, tmp_path: Path, later: None) -> None:
    check(layer, tmp_path / "cache")
    known = KnownDigests(tmp_path / "cache")
    with layer.open("rb") as file:
        state = known.find_state(file.fileno())
        assert known.knows(state, 0, len(CONTENT), DIGEST)
        assert not known.knows(state, 1, len(CONTENT), DIGEST)
        assert not known.knows(state, 0, len(CONTENT) - 1, DIGEST)
        assert not known.knows(state, 0, len(CONTENT), "sha256:" + "0" * 64)


def test_a_failed_check_is_not_noted(layer: Path, tmp_path: Path, later: None) -> None:
    flip_in_place(layer)
    for _ in range(2):
        with pytest.raises(InvalidInput):
            check(layer, tmp_path / "cache")


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b'["a"]', seal(b"{"), seal(b"5"), seal(b"[[1]]")])
def test_notes_that_were_damaged_are_none(layer: Path, tmp_path: Path, later: None, text: bytes) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/digests.json").write_bytes(text)
    read: list[int] = []
    check(layer, tmp_path / "cache", read)
    assert read


def test_the_latest_are_kept(
    layer: Path, tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.fledge.known_digests.MOST_ENTRIES", 3)
    for number in range(5):
        other = tmp_path / f"layer-{number}"
        other.write_bytes(CONTENT)
        check(other, tmp_path / "cache")
    read: list[int] = []
    for number in (2, 3, 4):
        check(tmp_path / f"layer-{number}", tmp_path / "cache", read)
    assert not read
    check(tmp_path / "layer-1", tmp_path / "cache", read)
    assert read
