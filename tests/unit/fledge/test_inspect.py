# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import json
import struct
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import plugin_files
from support.oci_images import make_entry, make_layer, write_docker_archive
from support.remembering_monitor import RememberingMonitor
from volant.fledge.build import build_plugin
from volant.fledge.inspect import inspect_plugin
from volant.fledge.order import CommandLine, make_order

pytestmark = pytest.mark.usefixtures("agent")


def make_plugin(home: Path, monitor: RememberingMonitor, **line: Any) -> Path:
    many = [make_entry(f"many/{number:05}", content=b"m") for number in range(2000)]
    layer = make_layer(
        make_entry("opt/big", content=b"b" * 300_000), make_entry("opt/deep/small", content=b"s" * 1000),
        make_entry("many", tarfile.DIRTYPE), *many, make_entry("opt/link", tarfile.LNKTYPE, link="opt/big"),
    )  # fmt: skip
    write_docker_archive(home / "image.tar", [layer], config={"Cmd": ["/x"], "Labels": {"l": "v"}})
    order = replace(make_order(CommandLine(docker_archive="image.tar", **line)), disk_size_bytes=64 << 20)
    return build_plugin(order, monitor).path


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_manifest_sizes_and_biggest_paths(home: Path, monitor: RememberingMonitor, disk_format: str) -> None:
    plugin = make_plugin(home, monitor, format=disk_format)
    told = json.loads(inspect_plugin(plugin, top=4, as_json=True))
    assert told["kind"] == "rootfs"
    assert told["virtual_size_bytes"] == 64 << 20
    assert told["manifest"]["name"] == "app"
    biggest = [(row["path"], row["size_bytes"]) for row in told["biggest_paths"]]
    names = [path for path, _ in biggest]
    assert biggest[0] == ("/opt/", 301_000)
    assert biggest[1][1] == 300_000
    assert names[1] in ("/opt/big", "/opt/link")
    assert biggest[2] == ("/many/", 2000)
    assert biggest[3][1] == 1000


def test_as_text(home: Path, monitor: RememberingMonitor) -> None:
    text = inspect_plugin(make_plugin(home, monitor), top=3, as_json=False)
    assert "plugin:      app 1.0.0\n" in text
    assert "labels:      l=v\n" in text
    assert "  293.9 KiB  /opt/\n" in text


def test_an_initramfs(home: Path, monitor: RememberingMonitor) -> None:
    (home / "page").write_text("x" * 5000)
    (home / "fledge.toml").write_text(
        '[plugin]\nname = "ram"\nversion = "1.0.0"\n[plugin.runtime]\ntype = "initramfs"\n[mappings]\npage = "/srv/p"\n'
    )
    told = json.loads(
        inspect_plugin(build_plugin(make_order(CommandLine()), monitor).path, top=2, as_json=True)
    )
    assert (told["kind"], told["payload"]) == ("initramfs", "initramfs.cpio.gz")
    assert told["biggest_paths"][0]["size_bytes"] == 5000


def test_a_disk_of_something_else_is_shown_without_paths(home: Path) -> None:
    (home / "rootfs.img").write_bytes(bytes(1 << 20))
    (home / "manifest.json").write_text('{"name": "hand", "version": "1.0.0"}')
    with tarfile.open(home / "plugin.tar.gz", "w:gz") as archive:
        archive.add("rootfs.img")
        archive.add("manifest.json")
    assert "biggest paths: not shown" in inspect_plugin(home / "plugin.tar.gz", top=3, as_json=False)


@pytest.mark.parametrize(
    "header",
    [
        b"070701" + b"-0000001" * 13,  # a size that would read everything
        b"070701" + b"00000000" * 11 + b"ffffffff" + b"00000000",  # a name of 4 GiB
        b"070701" + b"0x0000ff" * 13,
    ],
)
def test_lying_cpio_headers_end_the_listing(home: Path, header: bytes) -> None:
    payload = gzip.compress(header + bytes(32 << 20))
    (home / "plugin.tar.gz").write_bytes(plugin_files.make_plugin(payload=payload))
    tracemalloc.start()
    assert "biggest paths: not shown" in inspect_plugin(home / "plugin.tar.gz", top=3, as_json=False)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_extents_that_point_to_themselves_end_the_listing(home: Path, monitor: RememberingMonitor) -> None:
    plugin = make_plugin(home, monitor, format="raw")
    with tarfile.open(plugin) as archive:
        archive.extract("rootfs.img", home)
    (home / "manifest.json").write_text('{"name": "app", "version": "1.0.0"}')
    with (home / "rootfs.img").open("r+b") as disk:
        # The root folder's extents: an inner node of depth 5 whose 340 entries all lead to its own block.
        disk.seek(4096 + 8)
        table = int.from_bytes(disk.read(4), "little")
        block = (64 << 20) // 4096 - 1
        index = struct.pack("<IIHH", 0, block, 0, 0)
        disk.seek(table * 4096 + 256 + 40)
        disk.write(struct.pack("<HHHHI", 0xF30A, 1, 4, 5, 0) + index)
        disk.seek(block * 4096)
        disk.write(struct.pack("<HHHHI", 0xF30A, 340, 340, 5, 0) + index * 340)
    with tarfile.open(home / "hostile.tar.gz", "w:gz") as archive:
        archive.add("manifest.json")
        archive.add("rootfs.img")
    assert "biggest paths: not shown" in inspect_plugin(home / "hostile.tar.gz", top=3, as_json=False)
