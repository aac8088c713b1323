# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from volant.errors import Conflict, InvalidInput, NotFound
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.states import VmState
from volant.volantd.vms.volumes import attach_volumes, make_mounts


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        for name in ("data", "logs"):
            fleet.domain.volumes.create(name, 1 << 24)
        yield fleet


async def create(fleet: Fleet, name: str, *volumes: tuple[str, str, bool], start: bool = True) -> None:
    await fleet.create(NewVm(name=name, plugin="web", network="vsock", volumes=volumes, start=start))


async def test_one_writes_or_many_read(fleet: Fleet) -> None:
    await create(fleet, "writer", ("data", "/data", False))
    for reads in (True, False):
        with pytest.raises(Conflict, match="VM writer writes to volume data"):
            await create(fleet, "other", ("data", "/data", reads))
    assert [vm.name for vm in fleet.list_all()] == ["writer"]
    await fleet.stop("writer", force=True)
    for name in ("reader-1", "reader-2"):
        await create(fleet, name, ("data", "/data", True))
    with pytest.raises(Conflict, match="VM reader-1 reads volume data"):
        await fleet.start("writer")
    assert fleet.get("writer").state is VmState.STOPPED


async def test_a_vm_that_is_not_started_only_has_it_in_its_definition(fleet: Fleet) -> None:
    await create(fleet, "one", ("data", "/data", False), start=False)
    await create(fleet, "two", ("data", "/data", False))
    busy = fleet.domain.volumes.busy(fleet.domain.volumes.get("logs"), "copied")
    with busy, pytest.raises(Conflict, match="volume logs: it is being copied"):
        await create(fleet, "three", ("logs", "/logs", False))


async def test_disks_and_mounts_in_the_order_of_folders(fleet: Fleet) -> None:
    await create(fleet, "vm", ("logs", "/data/logs/", True), ("data", "/data", False))
    record = fleet.get("vm")
    assert [(mount.target, mount.read_only, mount.format_if_blank) for mount in make_mounts(record)] == [
        ("/data", False, False),
        ("/data/logs", True, False),
    ]
    assert record.spec is not None
    drives = record.spec.disks[-2:]
    assert [drive.serial for drive in drives] == [mount.serial for mount in make_mounts(record)]
    assert [(drive.format, drive.read_only) for drive in drives] == [("raw", False), ("raw", True)]
    assert all(drive.path.exists() for drive in drives)


@pytest.mark.parametrize(
    "target",
    ["data", "", "/", "//", "/.", "/a/../..", "/proc", "/proc/x", "/dev/../dev/shm", "/run/volant", "/sys/"],
)
async def test_places_that_no_volume_has(fleet: Fleet, target: str) -> None:
    with pytest.raises(InvalidInput, match="cannot attach volume data"):
        attach_volumes(fleet.domain, [("data", target, False)])


async def test_what_cannot_be_attached(fleet: Fleet) -> None:
    with pytest.raises(NotFound, match="volume none"):
        attach_volumes(fleet.domain, [("none", "/data", False)])
    with pytest.raises(InvalidInput, match="same name: data"):
        attach_volumes(fleet.domain, [("data", "/a", False), ("data", "/b", False)])
    with pytest.raises(InvalidInput, match="same target: /a"):
        attach_volumes(fleet.domain, [("data", "/a", False), ("logs", "/a/", False)])
    with pytest.raises(InvalidInput, match="at most 16"):
        attach_volumes(fleet.domain, [("data", "/a", False)] * 17)


async def test_snapshots_are_of_the_vms_own_disk(fleet: Fleet, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, tmp_path / "vms")
    await create(fleet, "vm", ("data", "/data", False))
    with pytest.raises(Conflict, match="its memory would not match its volumes"):
        await acts.take(fleet, store, "vm", "then")
    await fleet.stop("vm", force=True)
    snapshot = await acts.take(fleet, store, "vm", "then")
    copy = await acts.create_vm(fleet, snapshot, NewVm(name="copy", plugin=""))
    assert copy.definition.volumes == []
    await acts.create_vm(fleet, snapshot, NewVm(name="copy-2", plugin="", volumes=[("logs", "/logs", False)]))
    await fleet.start("vm")
