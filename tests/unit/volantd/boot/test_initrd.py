# SPDX-License-Identifier: Apache-2.0
"""Archives are read back by cpio(1) and, as the kernel does it, one after another."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import struct
from pathlib import Path

import lz4.block
import pytest

from volant.contract.guest_config import Control, GuestConfig
from volant.cpio import CpioWriter
from volant.errors import InvalidInput
from volant.volantd.boot.initrd import list_module_names, make_base_archive, write_initrd
from volant.volantd.boot.modules import ModuleFile

CONFIG = GuestConfig(
    vm_id="1",
    vm_name="web",
    hostname="web",
    root=None,
    control=Control(host_key="secret", authorized_keys=[]),
)


def unpack(data: bytes) -> dict[str, tuple[int, bytes]]:
    """What the kernel's unpacker would leave (init/initramfs.c): name → mode and content, later over earlier."""
    files: dict[str, tuple[int, bytes]] = {}
    position = 0
    while position < len(data):
        if data[position] == 0:
            position += 1
            continue
        assert position % 4 == 0, "the kernel wants archives at multiples of four"
        if data[position : position + 2] == b"\x1f\x8b":
            stream = io.BytesIO(data[position:])
            with gzip.GzipFile(fileobj=stream) as member:
                # One member at a time: the zeros and archives after it are not gzip's.
                try:
                    content = member.read1(1 << 20)
                except gzip.BadGzipFile:
                    content = b""
            files |= unpack(content)
            position = data.index(b"070701", position)
            continue
        assert data[position : position + 6] == b"070701", data[position : position + 16]
        fields = [int(data[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[position + 110 : position + 110 + name_size - 1].decode()
        begin = position + (110 + name_size + 3 & ~3)
        if name != "TRAILER!!!":
            files[name] = (mode, data[begin : begin + size])
        position = begin + (size + 3 & ~3)
    return files


def make_archive(name: bytes, content: bytes) -> bytes:
    stream = io.BytesIO()
    archive = CpioWriter(stream)
    archive.add(name, stat.S_IFREG | 0o755, content)
    archive.finish()
    return stream.getvalue()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "kestrel").write_bytes(b"agent")
    (tmp_path / "virtio_blk.ko").write_bytes(b"driver")
    modules = [ModuleFile("virtio_blk", tmp_path / "virtio_blk.ko")]
    assert list_module_names(modules) == ["virtio_blk.ko"]
    return make_base_archive(tmp_path / "kestrel", modules, tmp_path / "cache")


def test_the_agent_is_init_and_the_settings_are_roots_alone(base: Path, tmp_path: Path) -> None:
    write_initrd(tmp_path / "initrd", base, CONFIG)
    files = unpack((tmp_path / "initrd").read_bytes())
    assert files["init"] == (stat.S_IFREG | 0o755, b"agent")
    assert files["volant/modules/virtio_blk.ko"][1] == b"driver"
    mode, settings = files["volant/guest.json"]
    assert mode == stat.S_IFREG | 0o600
    assert json.loads(settings)["root"] is None
    assert GuestConfig.model_validate_json(settings) == CONFIG
    assert (tmp_path / "initrd").stat().st_mode & 0o777 == 0o600


def test_the_base_is_kept_by_content(base: Path, tmp_path: Path) -> None:
    again = make_base_archive(
        tmp_path / "kestrel", [ModuleFile("virtio_blk", tmp_path / "virtio_blk.ko")], tmp_path / "cache"
    )
    assert again == base
    (tmp_path / "kestrel").write_bytes(b"newer")
    newer = make_base_archive(tmp_path / "kestrel", [], tmp_path / "cache")
    assert newer != base
    assert unpack(newer.read_bytes())["init"][1] == b"newer"


@pytest.mark.parametrize("length", range(1, 9))
def test_a_plugins_archive_comes_first_whatever_its_length(base: Path, tmp_path: Path, length: int) -> None:
    plugin = tmp_path / "initramfs.cpio.gz"
    plugin.write_bytes(
        gzip.compress(make_archive(b"init", os.urandom(length)) + make_archive(b"app", b"app"))
    )
    write_initrd(tmp_path / "initrd", base, CONFIG, plugin)
    files = unpack((tmp_path / "initrd").read_bytes())
    assert files["init"][1] == b"agent"
    assert files["app"][1] == b"app"
    assert "volant/guest.json" in files


def test_an_lz4_archive_is_unpacked_before(base: Path, tmp_path: Path) -> None:
    block = lz4.block.compress(make_archive(b"app", b"app"), store_size=False)
    plugin = tmp_path / "initramfs.cpio.lz4"
    plugin.write_bytes(b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block)
    write_initrd(tmp_path / "initrd", base, CONFIG, plugin)
    assert unpack((tmp_path / "initrd").read_bytes())["app"][1] == b"app"


def test_what_the_kernel_cannot_unpack_is_refused_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "initramfs.tar"
    plugin.write_bytes(b"not an archive")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidInput, match=r"initramfs\.tar: it is no cpio archive"):
        write_initrd(tmp_path / "initrd", base, CONFIG, plugin)
    assert sorted(tmp_path.iterdir()) == before
