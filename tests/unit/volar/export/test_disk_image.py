# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from support.exported_machines import make_document
from volant.errors import InvalidInput
from volant.registries.layout import Layout, find_blob
from volant.volar.export.boot_stream import BootFile
from volant.volar.export.disk_image import write_disk_image

DISK, KERNEL, INITRD = b"a disk" * 1000, b"a kernel", b"an archive"


def make_files(**contents: bytes) -> Iterable[BootFile]:
    for name, content in contents.items():
        yield BootFile(name, len(content), iter([content[:100], content[100:]]))


def read_json(folder: Path, digest: str) -> Any:
    return json.loads(find_blob(folder, digest).read_bytes())


def read_layer(folder: Path, layer: dict[str, Any], diff_id: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    packed = find_blob(folder, layer["digest"]).read_bytes()
    assert f"sha256:{hashlib.sha256(packed).hexdigest()}" == layer["digest"]
    assert len(packed) == layer["size"]
    content = gzip.decompress(packed) if layer["mediaType"].endswith("+gzip") else packed
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == diff_id
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            found[member.name] = (member, stream.read() if stream is not None else b"")
    return found


def test_a_disk_and_what_boots_it_are_two_layers(tmp_path: Path) -> None:
    files = make_files(vmlinuz=KERNEL, initrd=INITRD, disk=DISK)
    digest = write_disk_image(Layout(tmp_path), make_document(), files, "shop")
    index = json.loads((tmp_path / "index.json").read_text())
    assert [each["digest"] for each in index["manifests"]] == [digest]
    manifest = read_json(tmp_path, digest)
    config = read_json(tmp_path, manifest["config"]["digest"])
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    disk, boot = map(
        lambda layer, diff_id: read_layer(tmp_path, layer, diff_id),
        manifest["layers"],
        config["rootfs"]["diff_ids"],
    )
    assert list(disk) == ["disk", "disk/disk.qcow2"]
    member, content = disk["disk/disk.qcow2"]
    assert (member.uid, member.gid, member.mode, member.mtime, content) == (107, 107, 0o440, 0, DISK)
    assert {name: content for name, (_, content) in boot.items() if content} == {
        "boot/vmlinuz": KERNEL,
        "boot/initrd": INITRD,
    }
    assert manifest["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar", (
        "compressed already"
    )


def test_the_same_disk_is_the_same_image(tmp_path: Path) -> None:
    digests = {
        write_disk_image(
            Layout(tmp_path / name), make_document(), make_files(initrd=INITRD, disk=DISK), "shop"
        )
        for name in "ab"
    }
    assert len(digests) == 1


def test_a_raw_disk_is_compressed(tmp_path: Path) -> None:
    files = make_files(disk=bytes(1 << 20))
    digest = write_disk_image(Layout(tmp_path), make_document(disk_format="raw"), files, "shop")
    (layer,) = read_json(tmp_path, digest)["layers"]
    assert layer["mediaType"].endswith("+gzip")
    assert layer["size"] < 1 << 16


def test_what_boots_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'passwd', which is nothing to boot"):
        write_disk_image(Layout(tmp_path), make_document(), make_files(passwd=b""), "shop")
