# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import pytest

from support.breaking_server import serve
from support.disk_images import describe, make_source
from volant.contract.manifest import Disk
from volant.errors import Conflict, InvalidInput
from volant.process import run_tool
from volant.volantd.vms.disk_sources import fetch_disk

Form = Literal["raw", "qcow2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    return path


def fetch(
    folder: Path, content: bytes, form: Form = "raw", checksum: str = "", size: str | None = None
) -> int:
    with serve(content) as url:
        disk = Disk(name="seed", source=url, format=form, checksum=checksum or describe(content), size=size)
        return fetch_disk(disk, folder, threading.Event())


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_it_is_what_the_source_holds_and_as_large_as_is_wanted(
    folder: Path, tmp_path: Path, form: Form
) -> None:
    content, _ = make_source(tmp_path, form)
    assert fetch(folder, content, form, size="64M") == 64 << 20
    (disk,) = folder.iterdir()
    status = disk.stat()
    assert (status.st_size, status.st_mode & 0o777) == (64 << 20, 0o600)
    assert status.st_blocks * 512 < 16 << 20, "holes stay holes"
    assert "source" in run_tool(["dumpe2fs", "-h", str(disk)]).stdout


def test_without_a_size_it_is_as_large_as_its_source(folder: Path, tmp_path: Path) -> None:
    content, _ = make_source(tmp_path, "raw")
    assert fetch(folder, content + bytes(1000), size="16M") == 17 << 20


@pytest.mark.parametrize(
    ("content", "checksum", "problem"),
    [
        (b"x" * 4096, "sha256:" + "0" * 64, "answers with something else"),
        (bytes(1 << 23), "", "no ext4 file system"),
        (b"short", "", "no ext4 file system"),
    ],
)
def test_what_is_no_disk_is_refused(folder: Path, content: bytes, checksum: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        fetch(folder, content, checksum=checksum)


def test_a_raw_image_is_no_qcow2(folder: Path, tmp_path: Path) -> None:
    content, _ = make_source(tmp_path, "raw")
    with pytest.raises(InvalidInput, match="no QCOW2"):
        fetch(folder, content, "qcow2")


def test_a_qcow2_that_stands_on_a_file_of_this_host_is_refused(folder: Path, tmp_path: Path) -> None:
    secret, packed = tmp_path / "secret.raw", tmp_path / "thief.qcow2"
    secret.write_bytes(bytes(1 << 23))
    run_tool(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(packed)])
    with pytest.raises(InvalidInput, match="stands on another disk"):
        fetch(folder, packed.read_bytes(), "qcow2")


def test_one_that_is_cancelled_ends(folder: Path, tmp_path: Path) -> None:
    content, checksum = make_source(tmp_path, "raw")
    cancelled = threading.Event()
    cancelled.set()
    with serve(content) as url, pytest.raises(Conflict, match="deleted meanwhile"):
        fetch_disk(Disk(name="seed", source=url, checksum=checksum), folder, cancelled)
