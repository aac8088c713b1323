# SPDX-License-Identifier: Apache-2.0
"""Kernels of a few bytes, built to the boot protocol's layout; the real package is fetched by an integration test."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard

from volant.errors import InvalidInput, NotFound
from volant.volantd.boot.kernel import (
    extract_vmlinux,
    find_kernel,
    has_pvh_entry,
    require_kernel,
    unpack_bzimage,
)


def make_vmlinux(note: int = 18) -> bytes:
    """An ELF64 file with one PT_NOTE segment that holds two notes."""
    notes = struct.pack("<III", 4, 8, 6) + b"Xen\0" + bytes(8)
    notes += struct.pack("<III", 4, 4, note) + b"Xen\0" + b"\0\0\0\1"
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), len(notes), 4)
    return header + segment + notes + bytes(range(256)) * 40


def compress_lz4(data: bytes) -> bytes:
    block = lz4.block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def make_bzimage(payload: bytes) -> bytes:
    """Boot protocol: 3 setup sectors, payload 64 bytes into the protected-mode code."""
    image = bytearray(4 * 512 + 64)
    image[0x1F1] = 3
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload + b"trailing"


VMLINUX = make_vmlinux()
SIZE = struct.pack("<I", len(VMLINUX))


@pytest.mark.parametrize(
    "compress",
    [
        pytest.param(compress_lz4, id="lz4"),
        pytest.param(lambda data: zlib.compress(data, wbits=31), id="gzip"),
        pytest.param(lzma.compress, id="xz"),
        pytest.param(lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE), id="lzma"),
        pytest.param(zstandard.compress, id="zstd"),
        pytest.param(bz2.compress, id="bzip2"),
    ],
)
def test_every_compression_is_undone(compress: Callable[[bytes], bytes]) -> None:
    assert unpack_bzimage(make_bzimage(compress(VMLINUX) + SIZE)) == VMLINUX


def test_damage_and_unknown_kinds_are_said() -> None:
    with pytest.raises(InvalidInput, match="no x86 Linux kernel"):
        unpack_bzimage(b"MZ" + bytes(2000))
    damaged = bytearray(compress_lz4(VMLINUX))
    damaged[4:8] = struct.pack("<I", 1 << 30)
    with pytest.raises(InvalidInput, match="cut short"):
        unpack_bzimage(make_bzimage(bytes(damaged)))
    with pytest.raises(InvalidInput, match="damaged"):
        unpack_bzimage(make_bzimage(zstandard.compress(VMLINUX)[:4] + b"\xff" * 200))
    with pytest.raises(InvalidInput, match="magic 61626364"):
        unpack_bzimage(make_bzimage(b"abcd" * 10))


def test_the_pvh_note_decides() -> None:
    assert has_pvh_entry(VMLINUX)
    assert not has_pvh_entry(make_vmlinux(note=7))
    assert not has_pvh_entry(b"\x7fELF\x01")


def test_vmlinux_is_taken_out_once(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz-6.1"
    image.write_bytes(make_bzimage(compress_lz4(VMLINUX) + SIZE))
    first = extract_vmlinux(image, tmp_path / "cache")
    assert first.read_bytes() == VMLINUX
    first.write_bytes(b"kept")
    assert extract_vmlinux(image, tmp_path / "cache").read_bytes() == b"kept"
    assert list((tmp_path / "cache").iterdir()) == [first]


def test_a_kernel_that_pvh_cannot_start_is_booted_as_it_came(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz-6.1"
    image.write_bytes(make_bzimage(compress_lz4(make_vmlinux(note=7))))
    assert extract_vmlinux(image, tmp_path) == image
    image.write_bytes(VMLINUX)
    assert extract_vmlinux(image, tmp_path) == image


def make_package(folder: Path, version: str) -> None:
    (folder / "boot").mkdir(parents=True)
    (folder / "boot" / f"vmlinuz-{version}").write_bytes(VMLINUX)
    (folder / "lib/modules" / version).mkdir(parents=True)


def test_the_newest_kernel_of_the_architecture_is_found(tmp_path: Path) -> None:
    for version in ("6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64"):
        make_package(tmp_path / f"amd64-{version}", version)
    make_package(tmp_path / "arm64-6.9", "6.9")
    kernel = find_kernel("amd64", tmp_path)
    assert kernel is not None
    assert kernel.version == "6.1.0-56-cloud-amd64"
    assert kernel.modules == tmp_path / f"amd64-{kernel.version}/lib/modules" / kernel.version


def test_the_users_choice_is_a_file_or_a_package(tmp_path: Path) -> None:
    make_package(tmp_path / "mine", "6.6")
    for choice in (tmp_path / "mine", tmp_path / "mine/boot/vmlinuz-6.6"):
        kernel = find_kernel("amd64", tmp_path / "kernels", choice)
        assert kernel is not None
        assert (kernel.version, kernel.modules) == ("6.6", tmp_path / "mine/lib/modules/6.6")
    with pytest.raises(NotFound, match="no such file"):
        find_kernel("amd64", tmp_path, tmp_path / "nothing")


def test_no_kernel_tells_how_to_get_one(tmp_path: Path) -> None:
    assert find_kernel("amd64", tmp_path / "missing") is None
    with pytest.raises(NotFound) as raised:
        require_kernel("amd64", tmp_path)
    assert "volar setup kernel" in raised.value.resolution
