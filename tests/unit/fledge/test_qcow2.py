# SPDX-License-Identifier: Apache-2.0
"""QCOW2 read back by our own probe; qemu-img has its say in the integration tests."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from support.planned_images import FixedImage
from volant.contract.disk_probe import _Qcow2, probe_disk
from volant.filesystems.blocks import Piece
from volant.fledge.qcow2 import CLUSTER_SIZE, Compression, write_qcow2


class Buffer:
    """An Output in memory."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.settled = 0

    def append(self, data: bytes | memoryview) -> None:
        self.content += data

    def patch(self, offset: int, data: bytes) -> None:
        assert self.settled <= offset <= len(self.content) - len(data)
        self.content[offset : offset + len(data)] = data

    def settle(self, end: int) -> None:
        assert self.settled <= end <= len(self.content)
        self.settled = end


def make_image() -> FixedImage:
    noise = random.Random(7).randbytes(3 * CLUSTER_SIZE)
    pieces = [
        Piece(0, 10, b"a" * 10),
        Piece(CLUSTER_SIZE - 5, 10, b"b" * 10),
        Piece(3 * CLUSTER_SIZE, 2 * CLUSTER_SIZE, bytes(2 * CLUSTER_SIZE)),
        Piece((1 << 20) - 100, len(noise), noise),
        Piece(40 << 20, 1 << 20, b"text " * 209715 + b"\n"),
        Piece((50 << 20) + 4096, 4096, lambda: bytearray(b"c" * 4096)),
        *(Piece(place << 20, 9, b"d" * 9) for place in range(51, 63)),
    ]
    return FixedImage(64 << 20, pieces)


def write(image: FixedImage, compression: Compression | None, threads: int = 2) -> bytes:
    output = Buffer()
    write_qcow2(image, output, compression=compression, threads=threads)
    return bytes(output.content)


@pytest.mark.parametrize("compression", ["zstd", "zlib", None])
def test_every_byte_comes_back(tmp_path: Path, compression: Compression | None) -> None:
    image = make_image()
    path = tmp_path / "disk"
    path.write_bytes(write(image, compression))
    descriptor = os.open(path, os.O_RDONLY)
    size = path.stat().st_size
    assert probe_disk(descriptor, size).virtual_size_bytes == image.size_bytes
    assert _Qcow2(descriptor, size).read(0, image.size_bytes) == image.content()
    os.close(descriptor)


def test_the_bytes_do_not_depend_on_the_number_of_threads() -> None:
    image = make_image()
    assert write(image, "zstd", 1) == write(image, "zstd", 5)


def test_most_of_a_disk_is_settled_before_its_end_and_what_takes_long_is_made_later() -> None:
    noise = random.Random(3)
    made: list[int] = []

    def make(place: int) -> bytes:
        made.append(place)
        return noise.randbytes(4096)

    pieces = [Piece(place << 20, 4096, partial(make, place)) for place in range(8)]
    pieces += [
        Piece(place << 20, 4 * CLUSTER_SIZE, noise.randbytes(4 * CLUSTER_SIZE)) for place in range(8, 56)
    ]
    output = Buffer()
    write_qcow2(FixedImage(64 << 20, pieces), output, threads=1)
    assert len(output.content) / 2 < output.settled < len(output.content) * 0.8
    assert made == list(range(8))
    assert output.content[CLUSTER_SIZE : 5 * CLUSTER_SIZE] == pieces[8].data


def test_zeros_take_no_space() -> None:
    empty = write(FixedImage(1 << 40, []), "zstd")
    zeros = write(FixedImage(1 << 40, [Piece(5 << 20, 1 << 20, bytes(1 << 20))]), "zstd")
    assert len(zeros) == len(empty) == 4 * CLUSTER_SIZE


def test_what_cannot_be_compressed_is_stored_plain_and_aligned() -> None:
    noise = random.Random(1).randbytes(CLUSTER_SIZE)
    written = write(FixedImage(1 << 20, [Piece(0, CLUSTER_SIZE, noise)]), "zstd")
    assert written[CLUSTER_SIZE : 2 * CLUSTER_SIZE] == noise


def test_an_error_in_a_thread_reaches_the_caller(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")
    descriptor = os.open(tmp_path / "short", os.O_RDONLY)
    with pytest.raises(Exception, match="became shorter"):
        write(FixedImage(1 << 20, [Piece(0, 100, None, descriptor, 0)]), "zstd")
    os.close(descriptor)
