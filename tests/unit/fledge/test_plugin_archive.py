# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from support.planned_images import FixedImage
from support.written_plugins import write_plugin_file
from volant.contract.manifest import Manifest
from volant.filesystems.blocks import Piece
from volant.fledge.plugin_archive import DiskOptions, write_initramfs_plugin
from volant.progress import SilentMonitor
from volant.whole_file import WholeFile

MANIFEST = Manifest(name="app", version="1.2.3", description="naïve")
IMAGE = FixedImage(32 << 20, [Piece(5 << 20, 1 << 20, os.urandom(1 << 20))])


@pytest.mark.parametrize("options", [DiskOptions(), DiskOptions(compression=None), DiskOptions(format="raw")])
def test_the_manifest_comes_first_and_tells_the_truth(tmp_path: Path, options: DiskOptions) -> None:
    path = tmp_path / "app.tar.gz"
    written = write_plugin_file(path, IMAGE, MANIFEST, options, SilentMonitor())
    with tarfile.open(path) as archive:
        first, second = archive.getmembers()
        manifest = archive.extractfile(first)
        disk = archive.extractfile(second)
        assert manifest is not None and disk is not None
        document = json.load(manifest)
        content = disk.read()
    assert first.name == "manifest.json" and second.name == document["rootfs"]["path"]
    assert list(document)[:3] == ["schema_version", "name", "version"]
    assert document["rootfs"]["checksum"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert Manifest.model_validate(document) == written.manifest
    assert written.payload_size_bytes == len(content) and written.size_bytes == path.stat().st_size
    if options.format == "raw":
        assert content == IMAGE.content()
        assert path.stat().st_size < 2 << 20


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", 4)):
        write_plugin_file(tmp_path / name, IMAGE, MANIFEST, DiskOptions(threads=threads), SilentMonitor())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_initramfs_is_taken_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"\x1f\x8b" + os.urandom(3_000_000))
    descriptor = os.open(source, os.O_RDONLY)
    with WholeFile(tmp_path / "p.tar.gz") as file:
        write_initramfs_plugin(file.descriptor, descriptor, MANIFEST, SilentMonitor())
        file.publish()
    os.close(descriptor)
    with tarfile.open(tmp_path / "p.tar.gz") as archive:
        member = archive.extractfile("initramfs.cpio.gz")
        assert member is not None and member.read() == source.read_bytes()


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    broken = FixedImage(32 << 20, [Piece(0, 10, None, descriptor, 0)])
    with pytest.raises(IsADirectoryError):
        write_plugin_file(tmp_path / "p.tar.gz", broken, MANIFEST, DiskOptions(), SilentMonitor())
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_the_older_plugin_as_it_was(tmp_path: Path) -> None:
    class Impatient(SilentMonitor):
        def advance(self, units: int) -> None:
            raise KeyboardInterrupt

    (tmp_path / "p.tar.gz").write_text("older")
    with pytest.raises(KeyboardInterrupt):
        write_plugin_file(tmp_path / "p.tar.gz", IMAGE, MANIFEST, DiskOptions(), Impatient())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]
