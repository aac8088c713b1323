# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from volant.errors import Conflict, InvalidInput
from volant.process import run_tool
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.volumes import acts
from volant.volantd.volumes.store import Volume


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        yield fleet


@pytest.fixture
def volume(fleet: Fleet, tmp_path: Path) -> Volume:
    """With one file in it."""
    made = fleet.domain.volumes.create("data", 1 << 24)
    (tmp_path / "precious").write_text("kept")
    disk = fleet.domain.volumes.find_disk(made)
    run_tool(["debugfs", "-w", "-R", f"write {tmp_path / 'precious'} precious", str(disk)])
    return made


async def back_up(fleet: Fleet) -> bytes:
    return b"".join([chunk async for chunk in acts.stream_backup(fleet, "data")])


def read(fleet: Fleet, volume: Volume) -> str:
    return run_tool(["debugfs", "-R", "cat precious", str(fleet.domain.volumes.find_disk(volume))]).stdout


async def start(fleet: Fleet, name: str, target: str = "/data", *, reads: bool = False) -> None:
    await fleet.create(NewVm(name=name, plugin="web", network="vsock", volumes=[("data", target, reads)]))


@pytest.mark.parametrize("runs", [True, False])
async def test_a_backup_becomes_a_volume_again(
    fleet: Fleet, volume: Volume, tmp_path: Path, runs: bool
) -> None:
    if runs:
        await start(fleet, "writer")
    content = await back_up(fleet)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "out")  # ours
    assert names[:2] == ["volume.json", "disk.qcow2"]
    run_tool(["sha256sum", "-c", "digests"], cwd=tmp_path / "out")
    store = fleet.domain.volumes
    restored = acts.take_in(store, io.BytesIO(content), "again")
    assert restored.id != volume.id
    assert restored.size_bytes == volume.size_bytes == store.find_disk(restored).stat().st_size
    assert read(fleet, restored) == "kept"
    run_tool(["e2fsck", "-f", "-n", str(store.find_disk(restored))])
    assert store.measure(restored) < 4 << 20
    with pytest.raises(Conflict, match="there is one already"):
        acts.take_in(store, io.BytesIO(content), "")
    assert len(list(store.folder.iterdir())) == 2


async def test_a_changed_or_cut_archive_leaves_nothing(fleet: Fleet, volume: Volume) -> None:
    content = await back_up(fleet)
    for broken in (content[:-20_000], content.replace(b"kept", b"lost", 1), b"x", content[:700]):
        with pytest.raises(InvalidInput, match="cannot restore"):
            acts.take_in(fleet.domain.volumes, io.BytesIO(broken), "again")
    assert fleet.domain.volumes.list_all() == [volume]
    assert len(list(fleet.domain.volumes.folder.iterdir())) == 1


async def test_a_disk_that_stands_on_a_file_of_this_host_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    volume = fleet.domain.volumes.create("data", 1 << 24)
    disk = tmp_path / "disk.qcow2"
    run_tool(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", str(disk), "16M"])
    with pytest.raises(InvalidInput, match="not what the archive says"):
        acts.unpack_disk(tmp_path, volume)
    assert not (tmp_path / "disk.raw").exists()


async def test_what_a_vm_has_is_not_deleted(fleet: Fleet, volume: Volume) -> None:
    await start(fleet, "writer")
    await fleet.stop("writer", force=True)
    with pytest.raises(Conflict, match="1 VM use it") as caught:
        await acts.delete(fleet, "data")
    assert caught.value.resolution == "volar vms delete writer"
    await fleet.delete("writer")
    await acts.delete(fleet, "data")
    assert fleet.domain.volumes.list_all() == []


async def test_it_grows_under_a_vm(fleet: Fleet, volume: Volume) -> None:
    await start(fleet, "writer")
    assert (await acts.resize(fleet, "data", 1 << 25)).size_bytes == 1 << 25
    assert fleet.domain.volumes.find_disk(volume).stat().st_size == 1 << 25
