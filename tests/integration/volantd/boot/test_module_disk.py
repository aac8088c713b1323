# SPDX-License-Identifier: Apache-2.0
"""The disk of kernel modules, judged by e2fsck and debugfs, and its tables by kmod where the host has it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from support.kernel_modules import make_elf
from support.plugin_disk import debugfs
from volant.volantd.boot.module_disk import find_module_disk

VERSION = "6.1.0-test"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "lib/modules" / VERSION
    for name, modinfo in {
        "kernel/fs/over-lay.ko": b"alias=fs-overlay\0depends=crc\0",
        "kernel/lib/crc.ko.zst": b"depends=\0",
    }.items():
        content = make_elf(modinfo)
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(zstandard.compress(content) if path.suffix == ".zst" else content)
    (folder / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    return folder


def test_the_disk_holds_plain_modules_and_their_tables(modules: Path, tmp_path: Path) -> None:
    disk = find_module_disk(modules, tmp_path / "cache")
    assert disk is not None
    subprocess.run(["e2fsck", "-fn", str(disk)], check=True, capture_output=True)
    assert debugfs(disk, "cat /kernel/lib/crc.ko") == make_elf(b"depends=\0")
    assert (
        debugfs(disk, "cat /modules.dep") == b"kernel/fs/over-lay.ko: kernel/lib/crc.ko\nkernel/lib/crc.ko:\n"
    )
    assert debugfs(disk, "cat /modules.alias") == b"alias fs_overlay over_lay\n"
    assert [path.name for path in disk.parent.iterdir()] == [disk.name]


def test_it_is_made_once_for_the_same_modules(modules: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = find_module_disk(modules, cache)
    assert first is not None
    before = first.stat()
    assert find_module_disk(modules, cache) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    (modules / "kernel/fs/over-lay.ko").write_bytes(make_elf(b"depends=\0license=GPL\0"))
    shutil.copytree(modules, tmp_path / "other" / VERSION)
    assert find_module_disk(tmp_path / "other" / VERSION, cache) != first


def test_a_host_without_mke2fs_has_none(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.volantd.boot.module_disk.find_tool", lambda name: None)
    assert find_module_disk(modules, tmp_path / "cache") is None
