# SPDX-License-Identifier: Apache-2.0
"""What is streamed as a tar is one, for those who read tars."""

from __future__ import annotations

import io
import tarfile

import pytest

from volant.tar_entries import END, make_entry, make_header, make_padding


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
