# SPDX-License-Identifier: Apache-2.0
"""What is streamed as a tar is one, for those who read tars."""

from __future__ import annotations

import io
import tarfile

import pytest

from volant.tar_entries import END, make_entry, make_header, make_padding, stream_archive


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
@pytest.mark.parametrize("name", ["manifest.json", "a/" + "long" * 60, "snäp"])
def test_an_archive_in_pieces_is_read_as_a_whole(name: str, size: int) -> None:
    content = b"x" * size
    pieces = [
        make_entry("first", content),
        make_header(name, size, mode=0o644, mtime=315532800),
        content,
        make_padding(size),
        END,
    ]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        first, second = archive.getmembers()
        assert (first.name, first.size, first.mode, first.mtime) == ("first", size, 0o600, 0)
        assert (second.name, second.size, second.mode, second.mtime) == (name, size, 0o644, 315532800)
        stream = archive.extractfile(second)
        assert stream is not None
        assert stream.read() == content


def test_a_document_and_files_are_streamed_and_closed() -> None:
    files = [("disk/", 0, io.BytesIO()), ("disk/root", 700, io.BytesIO(b"y" * 700))]
    packed = b"".join(stream_archive("first.json", b"{}", files))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        found = [(member.name, member.isdir(), member.size) for member in archive]
    assert found == [("first.json", False, 2), ("disk", True, 0), ("disk/root", False, 700)]
    assert all(stream.closed for _, _, stream in files)


def test_an_owner_is_user_and_group() -> None:
    member = tarfile.TarInfo.frombuf(make_header("a", 1, owner=107), "utf-8", "strict")
    assert (member.uid, member.gid) == (107, 107)
