# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from volant.errors import InvalidInput
from volant.volantd.backup.archive import FIRST, ArchiveWriter, BackupHead, BackupResult, unpack

HEAD = BackupHead(version="1", taken_at="now", state_dir="/old", with_plugins=True, with_memory=False)
PLACES = ("vms", "key")


async def make_archive(folder: Path, files: dict[str, bytes], result: BackupResult | None = None) -> bytes:
    writer = ArchiveWriter()
    content = writer.write_document(FIRST, HEAD.model_dump_json().encode())
    for number, (name, data) in enumerate(files.items()):
        path = folder / str(number)
        path.write_bytes(data)
        content += b"".join([chunk async for chunk in writer.write_file(name, path)])
    return content + writer.write_end(result or BackupResult())


def test_what_is_written_is_read_by_tar_sha256sum_and_us(tmp_path: Path) -> None:
    files = {"vms/a/root.qcow2": bytes(range(256)) * 5000, "vms/a/empty": b"", "key": b"k"}
    content = asyncio.run(make_archive(tmp_path, files))
    by_tar = tmp_path / "by-tar"
    by_tar.mkdir()
    subprocess.run(["tar", "-xf", "-", "-C", str(by_tar)], input=content, check=True)
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "digests"], cwd=by_tar, check=True)
    folder = tmp_path / "by-us"
    assert unpack(io.BytesIO(content), folder, PLACES, FIRST, BackupHead) == HEAD
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}


async def test_cut_short_anywhere_it_is_refused(tmp_path: Path) -> None:
    content = await make_archive(tmp_path, {"vms/a": bytes(3000), "key": b"k"})
    for length in range(0, len(content) - 1024, 512):
        for cut in (length, length + 100):
            with pytest.raises(InvalidInput, match="cannot restore the backup"):
                unpack(io.BytesIO(content[:cut]), tmp_path / f"at-{cut}", PLACES, FIRST, BackupHead)


async def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    content = await make_archive(tmp_path, {"key": b"precious"})
    with pytest.raises(InvalidInput, match="is not what was written") as caught:
        unpack(
            io.BytesIO(content.replace(b"precious", b"Precious")), tmp_path / "out", PLACES, FIRST, BackupHead
        )
    assert caught.value.details == ("changed or missing: key",)


async def test_what_the_daemon_could_not_finish_says_why(tmp_path: Path) -> None:
    content = await make_archive(tmp_path, {"key": b"k"}, BackupResult(error="the host's disk is full"))
    with pytest.raises(InvalidInput, match="not finished: the host's disk is full"):
        unpack(io.BytesIO(content), tmp_path / "out", PLACES, FIRST, BackupHead)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/outside", tarfile.REGTYPE),
        ("vms/../outside", tarfile.REGTYPE),
        ("vms/.hidden", tarfile.REGTYPE),
        ("vms/a\nb", tarfile.REGTYPE),
        ("daemon.lock", tarfile.REGTYPE),
        ("vms/link", tarfile.SYMTYPE),
        ("vms/link", tarfile.LNKTYPE),
        ("vms/device", tarfile.CHRTYPE),
        ("vms", tarfile.DIRTYPE),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        head = tarfile.TarInfo(FIRST)
        head.size = len(HEAD.model_dump_json())
        archive.addfile(head, io.BytesIO(HEAD.model_dump_json().encode()))
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc"
        archive.addfile(info)
    stream.seek(0)
    with pytest.raises(InvalidInput, match=r"it holds|no plain file"):
        unpack(stream, tmp_path / "out", PLACES, FIRST, BackupHead)
    assert not (tmp_path / "outside").exists()
