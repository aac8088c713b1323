# SPDX-License-Identifier: Apache-2.0
"""What can be said of a planned image without a file system checker; e2fsck has its say in the integration tests."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from volant.errors import InvalidInput
from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import ROOT, Extent, FileTree, Metadata

FILE = Metadata(stat.S_IFREG | 0o644)


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    (tmp_path / "source").write_bytes(os.urandom(1 << 20))
    descriptor = os.open(tmp_path / "source", os.O_RDONLY)
    tree = FileTree()
    source = tree.add_source(descriptor)
    tree.add_file(ROOT, b"second", FILE, 9000, source, 20_000)
    tree.add_file(ROOT, b"first", FILE, 5000, source, 100)
    tree.add_file(
        ROOT, b"holes", FILE, 1 << 40, sparse=(Extent(4096, source, 0, 10), Extent(1 << 39, source, 50, 9000))
    )
    return tree


def test_pieces_ascend_and_do_not_overlap(tree: FileTree) -> None:
    image = plan_ext4(tree, size_bytes=1 << 30)
    end = 0
    for piece in image.pieces():
        assert piece.offset >= end
        end = piece.offset + piece.length
        if callable(piece.data):
            assert piece.offset >> 16 == end - 1 >> 16
            assert len(piece.data()) == piece.length
    assert end <= image.size_bytes == 1 << 30


def test_content_lies_in_the_order_of_its_source(tree: FileTree) -> None:
    pieces = [piece for piece in plan_ext4(tree).pieces() if piece.data is None]
    assert [piece.source_offset for piece in pieces] == [0, 50, 100, 20_000]


def test_the_plan_depends_on_nothing_but_its_input(tree: FileTree) -> None:
    def tell(**options: Any) -> list[object]:
        return [
            (piece.offset, piece.length, piece.data() if callable(piece.data) else piece.data)
            for piece in plan_ext4(tree, **options).pieces()
        ]

    assert tell() == tell()
    assert tell() != tell(uuid=bytes(range(16)))


def test_what_does_not_fit_is_refused_with_a_size_that_does(tree: FileTree) -> None:
    tree.add_file(ROOT, b"big", FILE, 300 << 20, 0, 0)
    with pytest.raises(InvalidInput, match="cannot fit") as caught:
        plan_ext4(tree, size_bytes=256 << 20)
    megabytes = int(caught.value.resolution.split("at least")[-1].split("to ")[-1].split("M")[0])
    plan_ext4(tree, size_bytes=megabytes << 20)


def test_the_disk_grows_with_its_content(tree: FileTree) -> None:
    assert plan_ext4(tree).size_bytes == 10 << 30
    tree.add_file(ROOT, b"big", FILE, 12 << 30, 0, 0)
    assert plan_ext4(tree).size_bytes == 16 << 30


def test_what_ext4_cannot_hold_is_told_with_the_name_of_the_file(tree: FileTree) -> None:
    folder = tree.add_directory(ROOT, b"etc", Metadata(stat.S_IFDIR | 0o755))
    tree.add_file(folder, b"odd\xff", Metadata(stat.S_IFREG | 0o644, xattrs=((b"user.a", bytes(9000)),)), 0)
    with pytest.raises(InvalidInput, match="larger than 4 KiB") as caught:
        plan_ext4(tree)
    assert caught.value.details[0] == "file: /etc/odd\\xff"
    tree.remove(ROOT, b"etc")
    tree.add_file(ROOT, b"huge", FILE, 1 << 45, sparse=())
    with pytest.raises(InvalidInput, match="16 TiB") as caught:
        plan_ext4(tree)
    assert caught.value.details[0] == "file: /huge"
