# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.contract.plugin_archive import Limits, PluginContent, read_plugin_archive
from volant.errors import InvalidInput

MINIMAL = {"name": "app", "version": "1.0.0"}
DISK = os.urandom(300_000) + bytes(200_000)


def pack(
    *files: tuple[str | tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT, level: int = 1
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), level, mtime=0)


def manifest(**more: object) -> tuple[str, bytes]:
    return "manifest.json", json.dumps({**MINIMAL, **more}).encode()


def make_qcow2(
    *, backing: int = 0, crypt: int = 0, features: int = 0, bits: int = 16, size: int = 1 << 30
) -> bytes:
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, backing, 0, bits, size, crypt, 2, 65536, 131072, 1, 0, 0
    )
    return (header + struct.pack(">QQQII", features, 0, 0, 4, 104)).ljust(4 * 65536, b"\0")


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "payload", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def read(archive: bytes, descriptor: int | None = None, limits: Limits | None = None) -> PluginContent:
    return read_plugin_archive(io.BytesIO(archive), descriptor, limits=limits)


def content_of(descriptor: int) -> bytes:
    return os.pread(descriptor, 1 << 24, 0)


# -- what is accepted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_hand_made_archive_needs_name_and_version_only(
    descriptor: int, order: list[int], format: int
) -> None:
    files = [manifest(), ("./rootfs.img", DISK)]
    content = read(pack(*(files[number] for number in order), format=format), descriptor)
    assert content_of(descriptor) == DISK
    assert content.kind == "rootfs" and content.payload_name == "rootfs.img"
    assert content.checksum == "sha256:" + hashlib.sha256(DISK).hexdigest()
    rootfs = content.manifest.rootfs
    assert rootfs is not None
    assert (rootfs.format, rootfs.boot, rootfs.checksum) == ("raw", "kernel", content.checksum)
    assert content.payload_size_bytes == content.virtual_size_bytes == len(DISK)


def test_zeros_become_holes(descriptor: int) -> None:
    read(pack(manifest(), ("disk.raw", b"x" + bytes(8 << 20))), descriptor)
    assert os.fstat(descriptor).st_size == (8 << 20) + 1
    assert os.fstat(descriptor).st_blocks * 512 < 1 << 20


def test_plain_tar_and_several_gzip_members_are_read(descriptor: int) -> None:
    plain = gzip.decompress(pack(manifest(), ("rootfs.img", DISK)))
    assert read(plain, descriptor).payload_size_bytes == len(DISK)
    middle = len(plain) // 2
    assert read(gzip.compress(plain[:middle]) + gzip.compress(plain[middle:]), descriptor).kind == "rootfs"


def test_folders_and_what_macos_adds_are_passed_over(descriptor: int) -> None:
    folder = tarfile.TarInfo("./")
    folder.type = tarfile.DIRTYPE
    assert read(
        pack((folder, b""), ("._manifest.json", b"junk"), manifest(), ("rootfs.img", DISK)), descriptor
    ).kind


def test_an_initramfs_is_known_by_its_manifest_or_its_content(descriptor: int) -> None:
    archive = gzip.compress(b"070701")
    for more in ({}, {"initramfs": {"path": "initramfs.cpio.gz"}}):
        content = read(pack(manifest(**more), ("initramfs.cpio.gz", archive)), descriptor)
        assert content.kind == "initramfs" and content.manifest.initramfs is not None
        assert content.manifest.initramfs.checksum == content.checksum


def test_small_files_are_kept(descriptor: int) -> None:
    content = read(pack(("user-data", b"#cloud-config\n"), manifest(), ("rootfs.img", DISK)), descriptor)
    assert content.files == {"user-data": b"#cloud-config\n"}


def test_a_payload_by_url_is_left_to_the_caller() -> None:
    content = read(pack(manifest(rootfs={"url": "https://example.com/disk"})))
    assert content.payload_name == "" and content.kind == "rootfs"


def test_progress_counts_compressed_bytes() -> None:
    archive = pack(manifest(), ("rootfs.img", DISK))
    told: list[int] = []
    read_plugin_archive(io.BytesIO(archive), None, on_bytes=told.append)
    assert sum(told) == len(archive)


# -- how it boots --------------------------------------------------------------------------------------------------


def disk(*marks: tuple[int, bytes]) -> bytes:
    content = bytearray(1 << 20)
    for offset, mark in marks:
        content[offset : offset + len(mark)] = mark
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "boot"),
    [
        (disk((1024 + 56, b"\x53\xef")), "kernel"),
        (disk((510, b"\x55\xaa")), "firmware"),
        (disk((510, b"\x55\xaa"), (512, b"EFI PART"), (1080, b"\x53\xef")), "firmware"),
        (disk((510, b"\x55\xaa"), (1080, b"\x53\xef")), "kernel"),
        (disk(), "kernel"),
    ],
)
def test_a_partition_table_means_firmware(descriptor: int, content: bytes, boot: str) -> None:
    found = read(pack(manifest(), ("rootfs.img", content)), descriptor).manifest.rootfs
    assert found is not None and found.boot == boot


# -- what is refused -----------------------------------------------------------------------------------------------


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("manifest.json")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"", "empty"),
        (b"not an archive at all" * 100, "not a tar archive"),
        (gzip.compress(b"x" * 5000), "not a tar archive"),
        (pack(), "no manifest.json"),
        (pack(("rootfs.img", DISK)), "no manifest.json"),
        (pack(manifest()), "holds no disk"),
        (pack(manifest(rootfs={"path": "a.img"})), "is not in it"),
        (pack(manifest(), manifest()), "twice"),
        (pack(manifest(), ("../rootfs.img", b"")), "leads outside"),
        (pack(manifest(), ("a/../../x", b"")), "leads outside"),
        (pack(manifest(), ("/rootfs.img", DISK)), "not a relative path"),
        (pack(manifest(), ("./", DISK)), "not the name of a file"),
        (pack((link(tarfile.SYMTYPE), b"")), "symbolic link"),
        (pack((link(tarfile.LNKTYPE), b"")), "hard link"),
        (pack((link(tarfile.CHRTYPE), b"")), "device"),
        (pack((link(tarfile.FIFOTYPE), b"")), "FIFO"),
        (pack(("a.img", DISK), ("b.img", DISK * 10), manifest()), "put manifest.json first"),
        (pack(manifest(rootfs={"path": "a.img"}), ("a.img", DISK), ("b.img", DISK * 10)), "not what the man"),
        (pack(manifest(rootfs={"path": "r", "checksum": "sha256:" + "0" * 64}), ("r", DISK)), "checksum"),
        (pack(manifest(rootfs={"path": "r", "format": "qcow2"}), ("r", DISK)), "its manifest says qcow2"),
        (pack(manifest(initramfs={"path": "r"}), ("r", DISK)), "not a cpio archive"),
        (pack(("manifest.json", b"{")), "manifest.json"),
        (pack(("manifest.json", b'{"name": "Bad Name", "version": "1"}')), "manifest.json"),
        (pack(*((f"file-{number}", b"") for number in range(300))), "more than 256 files"),
        (pack(("manifest.json", b" " * (5 << 20))), "MiB"),
    ],
)  # fmt: skip
def test_unsound_archives_are_refused(descriptor: int, archive: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read(archive, descriptor)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"backing": 512}, "backing file"),
        ({"crypt": 2}, "encrypted"),
        ({"features": 4}, "another file"),
        ({"features": 2}, "corrupt"),
        ({"features": 1 << 40}, "not known"),
        ({"bits": 40}, "cluster size"),
        ({"size": 1 << 60}, "virtual size"),
    ],
)
def test_a_qcow2_that_reaches_outside_is_refused(descriptor: int, options: dict[str, int], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read(pack(manifest(), ("rootfs.qcow2", make_qcow2(**options))), descriptor)


def test_an_empty_qcow2_is_a_disk(descriptor: int) -> None:
    content = read(pack(manifest(), ("rootfs.qcow2", make_qcow2())), descriptor)
    assert content.virtual_size_bytes == 1 << 30


def test_all_problems_of_a_manifest_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        read(pack(("manifest.json", b'{"name": "A", "version": "x", "wrong": 1}')))
    assert len(caught.value.details) == 3


@pytest.mark.parametrize("cut", [0.05, 0.3, 0.7, 0.999])
def test_a_truncated_archive_is_refused(descriptor: int, cut: float) -> None:
    archive = pack(manifest(), ("rootfs.img", DISK))
    with pytest.raises(InvalidInput, match=r"cut short|not a tar"):
        read(archive[: int(len(archive) * cut)], descriptor)


def test_a_flipped_bit_is_noticed(descriptor: int) -> None:
    archive = bytearray(pack(manifest(), ("rootfs.img", DISK)))
    archive[len(archive) // 2] ^= 1
    with pytest.raises(InvalidInput):
        read(bytes(archive), descriptor)


def test_what_follows_the_end_is_refused(descriptor: int) -> None:
    with pytest.raises(InvalidInput, match="follows its end"):
        read(pack(manifest(), ("rootfs.img", DISK)) + b"more", descriptor)


def test_a_lying_size_is_bounded_by_the_limit(descriptor: int) -> None:
    info = tarfile.TarInfo("rootfs.img")
    info.size = 1 << 50
    head = gzip.decompress(pack(manifest()))[:1024]
    with pytest.raises(InvalidInput, match="would be"):
        read(head + info.tobuf(tarfile.GNU_FORMAT), descriptor)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.XHDTYPE])
def test_headers_without_end_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("more")
    info.type = kind
    with pytest.raises(InvalidInput, match="headers"):
        read(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) * 20_000, 1))


def test_a_huge_extended_header_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    with pytest.raises(InvalidInput, match="extended header"):
        read(info.tobuf())


def test_memory_stays_bounded_whatever_is_inflated(descriptor: int) -> None:
    archive = pack(manifest(), ("rootfs.img", bytes(24 << 20)), level=9)
    tracemalloc.start()
    read(archive, descriptor)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 4096), st.booleans())
def test_noise_in_an_archive_never_gives_anything_but_our_error(
    noise: bytes, place: int, packed: bool
) -> None:
    plain = bytearray(gzip.decompress(pack(manifest(), ("rootfs.qcow2", make_qcow2()[:4096]))))
    plain[place : place + len(noise)] = noise
    archive = gzip.compress(bytes(plain), 1) if packed else bytes(plain)
    try:
        content = read(archive)
    except InvalidInput:
        return
    assert content.manifest.name
