# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed at every write of a VM's whole life; the next one finds nothing lost, leaked or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.crash_points import Crash, CrashPoints, Life, live_until_killed
from support.memory_daemon import answer_for_agents, create_running, start_daemon
from support.memory_hypervisor import MemoryHost, MemoryHypervisor, MemoryMachine
from support.plugin_files import make_data_plugin, make_plugin
from volant.volantd import database
from volant.volantd.hypervisors.base import EndKind, MemoryImage
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.resource import open_store
from volant.volantd.templates import shape as shape_module
from volant.volantd.templates.shape import Shape
from volant.volantd.templates.store import Template
from volant.volantd.templates.supply import TemplateSupply
from volant.volantd.vms import disk_layers, lifecycle, stopping, warm_start
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.start_kind import find_start
from volant.volantd.vms.states import WITH_PROCESS, VmState


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that costs no disk: some hundred daemons begin in it."""
    path = Path(tempfile.mkdtemp(prefix="volant-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


async def live(fleet: Fleet) -> None:
    """Everything that a VM and its plugin go through."""
    await fleet.domain.plugins.install(io.BytesIO(make_plugin()), source="test")
    await fleet.create(NewVm(name="one", plugin="web"))
    await fleet.create(NewVm(name="two", plugin="web", start=False))
    await fleet.stop("one", timeout_seconds=0)
    await fleet.start("one")
    await fleet.restart("one", timeout_seconds=0)
    await fleet.delete("two")
    await fleet.delete("one", force=True)
    await fleet.domain.plugins.remove("web")


async def have_disks(fleet: Fleet) -> None:
    """VMs whose plugin gives them disks, which go with them."""
    plugin = make_plugin(disks=[{"name": "data", "size": "16M"}])
    await fleet.domain.plugins.install(io.BytesIO(plugin), source="test")
    await fleet.create(NewVm(name="one", plugin="web", volumes=[("", "/more", False)]))
    await fleet.create(NewVm(name="web-1", plugin="web", deployment="web", start=False))
    await fleet.delete("web-1")
    await fleet.delete("one", force=True, volumes=True)
    await fleet.domain.plugins.remove("web")


async def sleep(fleet: Fleet) -> None:
    """A VM stands still, and sleeps on the disk."""
    await fleet.domain.plugins.install(io.BytesIO(make_plugin()), source="test")
    await create_running(fleet, "one")
    await fleet.pause("one")
    await fleet.unpause("one")
    await fleet.suspend("one")
    await fleet.resume("one")
    await fleet.suspend("one")
    await fleet.stop("one", force=True)
    await fleet.start("one")
    await fleet.delete("one", force=True)


async def return_to_snapshots(fleet: Fleet) -> None:
    """A VM becomes what it was, from each of its states."""
    await fleet.domain.plugins.install(io.BytesIO(make_plugin()), source="test")
    store = open_store(fleet.domain)
    await create_running(fleet, "one")
    await acts.take(fleet, store, "one", "then")
    await acts.restore(fleet, store, "one", "then")
    await fleet.suspend("one")
    await acts.restore(fleet, store, "one", "then")
    await fleet.stop("one", force=True)
    await acts.restore(fleet, store, "one", "then")
    await acts.delete(fleet, store, "then")
    await fleet.delete("one", force=True)


async def multiply(fleet: Fleet) -> None:
    """Copies of a VM that runs: forks, and those of a snapshot that outlives some of them."""
    await fleet.domain.plugins.install(io.BytesIO(make_plugin()), source="test")
    store = open_store(fleet.domain)
    await create_running(fleet, "one")
    await acts.fork(fleet, store, "one", ["two", "three"])
    await fleet.delete("two", force=True)
    snapshot = await acts.take(fleet, store, "one", "then")
    await acts.create_vm(fleet, snapshot, NewVm(name="four", plugin=""))
    await fleet.delete("one", force=True)
    await acts.delete(fleet, store, "then")
    for name in ("three", "four"):
        await fleet.delete(name, force=True)


async def carry(fleet: Fleet) -> None:
    """Snapshots leave as archives and come back, of a disk and of a memory; a VM is made of each."""
    await fleet.domain.plugins.install(io.BytesIO(make_data_plugin("web")), source="test")
    await fleet.domain.plugins.install(io.BytesIO(make_plugin("light")), source="test")
    store = open_store(fleet.domain)
    await fleet.create(NewVm(name="one", plugin="web"))
    await fleet.stop("one", timeout_seconds=0)
    await create_running(fleet, "two", "light")
    for vm, with_memory in (("one", False), ("two", True)):
        await acts.take(fleet, store, vm, f"of-{vm}")
        exported = await acts.export(fleet, store, f"of-{vm}", with_memory=with_memory)
        archive = io.BytesIO(b"".join(exported.chunks()))
        taken = await acts.take_in(fleet, store, archive, f"again-{vm}")
        await acts.delete(fleet, store, f"of-{vm}")
        record = await acts.create_vm(fleet, taken, NewVm(name=f"copy-{vm}", plugin=""))
        assert find_start(record.spec) == ("snapshot" if with_memory else "boot")
        await acts.delete(fleet, store, f"again-{vm}")
    for name in ("one", "two", "copy-one", "copy-two"):
        await fleet.delete(name, force=True)


TEMPLATE, OWN = b"what a template's disk holds", b"what it holds once the copy is itself"


async def wake_with_workload(fleet: Fleet) -> None:
    """The first VM boots and gives rise to a template, of which the second is a copy."""
    plugin = make_data_plugin("web", warm="workload")
    await fleet.domain.plugins.install(io.BytesIO(plugin), source="test")
    await fleet.create(NewVm(name="one", plugin="web"))
    await fleet.background.wait_idle()
    record = await fleet.create(NewVm(name="two", plugin="web"))
    assert find_start(record.spec) == "workload"
    assert fleet.find(record.id).files.disk.read_bytes() == OWN
    await fleet.stop("two", timeout_seconds=0)
    assert find_start((await fleet.start("two")).spec) == "boot"
    await fleet.delete("two", force=True)
    await fleet.domain.templates.clear()
    await fleet.delete("one", force=True)


def play_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template of a workload is there after the first start, without a machine; guests become what they are told."""

    async def provide(supply: TemplateSupply, shape: Shape) -> None:
        if shape.workload is None or supply.store.find(shape.key) is not None:
            return
        folder = supply.store.find_place(shape.key)
        with supply.store.draft(shape.key) as (_, hidden):
            for name, content in (("state", b"woken"), ("memory", b""), ("disk", TEMPLATE)):
                (hidden / name).write_bytes(content)
            template = Template(
                key=shape.key, versions=shape.versions, plugin=shape.workload.plugin, vcpu=1, memory_mb=128,
                image=MemoryImage(folder, is_copied=True, is_template=True, has_workload=True),
                payload=shape.workload.payload, accelerator="tcg", kernel="", has_network=True, size_bytes=1,
                took_seconds=1, created_at="",
            )  # fmt: skip
            supply.store.publish(template, hidden)

    async def tell(machine: MemoryMachine, *_: object) -> None:
        disk = machine.process.spec.disks[0].path
        if disk.read_bytes() == TEMPLATE:
            disk.write_bytes(OWN)

    async def is_healthy(*_: object) -> bool:
        return True

    monkeypatch.setattr(TemplateSupply, "provide", provide)
    monkeypatch.setattr(
        MemoryHypervisor, "capabilities", replace(MemoryHypervisor.capabilities, templates=True)
    )
    monkeypatch.setattr(shape_module, "_identify", lambda _: [])
    monkeypatch.setattr(lifecycle, "can_wake", lambda *_: True)
    monkeypatch.setattr(warm_start, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(warm_start, "_tell", tell)
    monkeypatch.setattr(warm_start, "_is_healthy", is_healthy)


def check_consistency(fleet: Fleet, host: MemoryHost, home: Path) -> None:
    records = fleet.list_all()
    running = {record.process for record in records if record.state in WITH_PROCESS}
    assert {process.identity for process in host.living} == running
    assert {path.name for path in (home / "vms").glob("*")} == {record.id for record in records}
    assert host.misfits == []
    volumes = fleet.domain.volumes.list_all()
    assert {volume.id for volume in volumes} == {
        attached.id for record in records for attached in record.definition.volumes
    }
    assert all(volume.is_settled for volume in volumes)
    states = {record.id: record.state for record in records}
    for folder in (home / "vms").glob("*"):
        assert (folder / "memory").exists() == (states[folder.name] is VmState.SUSPENDED)
        assert not (folder / "held").exists()
    for record in records:
        files = fleet.find(record.id).files
        if record.state in WITH_PROCESS and not record.definition.wakes_from and files.disk.exists():
            assert not files.borrowed.exists()
            assert files.disk.read_bytes() != TEMPLATE
    assert all(record.definition.restores_to is None for record in records)
    store = open_store(fleet.domain)
    places = [str(store.find_place(snapshot.id)) for snapshot in store.list_all() if snapshot.is_hidden]
    assert all(fleet.domain.registry.find_users("snapshot", place) for place in places)
    paused = {record.process for record in records if record.state is VmState.PAUSED}
    assert {process.identity for process in host.living if process.is_paused} == paused
    assert not (home / "lost+found").exists()
    templates = fleet.domain.templates.store
    assert {path.name for path in templates.folder.glob("*")} == {found.key for found in templates.list_all()}
    assert [path for path in home.rglob("*") if path.name.startswith(".")] == []
    plugins = {plugin.checksum.removeprefix("sha256:") for plugin in fleet.domain.plugins.list_all()}
    assert {path.name for path in (home / "plugins" / "sha256").iterdir()} == plugins
    assert list((home / "plugins" / "incoming").iterdir()) == []


async def clear(fleet: Fleet, host: MemoryHost, home: Path) -> None:
    """What the next daemon found can be worked with."""
    for record in fleet.list_all():
        await fleet.delete(record.id, force=True, volumes=True)
    for snapshot in open_store(fleet.domain).list_all():
        await acts.delete(fleet, open_store(fleet.domain), snapshot.id)
    for plugin in fleet.domain.plugins.list_all():
        await fleet.domain.plugins.remove(plugin.name)
    await fleet.background.wait_idle()
    check_consistency(fleet, host, home)
    assert host.living == []
    layers = home / "layers"
    assert not layers.exists() or os.listdir(layers) == []


async def test_a_kill_at_every_write_loses_leaks_and_doubles_nothing(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await kill_at_every_write(live, memory, monkeypatch) > 100, "the writes were not walked"


async def test_a_kill_at_every_write_of_one_with_disks_leaves_no_volume_without_a_vm(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.volantd.vms.plugin_disks.USUAL_SIZE", "16M")
    assert await kill_at_every_write(have_disks, memory, monkeypatch) > 60, "the writes were not walked"


async def test_a_kill_at_every_write_of_a_sleep_never_wakes_a_memory_that_does_not_fit_the_disk(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_for_agents(monkeypatch)
    assert await kill_at_every_write(sleep, memory, monkeypatch) > 100, "the writes were not walked"


async def test_a_kill_at_every_write_of_a_restore_leaves_the_old_or_the_new(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_for_agents(monkeypatch)
    assert await kill_at_every_write(return_to_snapshots, memory, monkeypatch) > 100, (
        "the writes were not walked"
    )


async def test_a_kill_at_every_write_of_a_fork_leaves_whole_vms_and_no_memory(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_for_agents(monkeypatch)
    assert await kill_at_every_write(multiply, memory, monkeypatch) > 100, "the writes were not walked"


async def test_a_kill_at_every_write_of_a_warm_workload_leaves_no_vm_with_anothers_disk(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_for_agents(monkeypatch)
    play_templates(monkeypatch)
    assert await kill_at_every_write(wake_with_workload, memory, monkeypatch) > 60, (
        "the writes were not walked"
    )


async def test_a_kill_at_every_write_of_an_export_and_an_import_leaves_whole_snapshots(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_for_agents(monkeypatch)
    # Those before are the plugins' and the first starts', as in the other lives.
    assert await kill_at_every_write(carry, memory, monkeypatch, first=80) > 150, "the writes were not walked"


async def kill_at_every_write(
    life: Life, memory: Path, monkeypatch: pytest.MonkeyPatch, *, first: int = 1
) -> int:
    """How many writes there were."""
    monkeypatch.setattr(stopping, "AGENT_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(database, "SPARE_BYTES", 1 << 16)
    (memory / "vmlinux").write_bytes(b"\x7fELF")
    points = CrashPoints(monkeypatch)
    fatal = first - 1
    while True:
        fatal += 1
        home, host = memory / "home", MemoryHost()
        home.mkdir()
        points.arm(0)
        async with start_daemon(home, host, points.act):
            pass  # its own first start is killed by the other tests
        points.arm(fatal)
        with contextlib.suppress(Crash):
            async with start_daemon(home, host, points.act) as fleet:
                await live_until_killed(fleet, points, life)
        survived = not points.is_dead
        # The one that would tidy up is killed, too, each time elsewhere.
        points.arm(fatal % 11 + 1)
        with contextlib.suppress(Crash):
            async with start_daemon(home, host, points.act) as fleet:
                await fleet.background.wait_idle()
        points.arm(0)
        disk_layers._held.clear()  # what a killed daemon held it holds no more
        async with start_daemon(home, host, points.act) as fleet:
            await fleet.background.wait_idle()
            try:
                check_consistency(fleet, host, home)
                await clear(fleet, host, home)
            except AssertionError as error:
                raise AssertionError(f"killed at write {fatal}: {error}") from error
        shutil.rmtree(home)
        if survived:
            print(f"killed at {fatal} writes")
            return fatal


async def test_a_guest_that_reboots_comes_back_though_the_daemon_is_killed_in_between(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "AGENT_WAIT_SECONDS", 0.0)
    (memory / "vmlinux").write_bytes(b"\x7fELF")
    points, home, host = CrashPoints(monkeypatch), memory / "home", MemoryHost()
    home.mkdir()
    async with start_daemon(home, host, points.act) as fleet:
        await fleet.domain.plugins.install(io.BytesIO(make_plugin()), source="test")
        record = await fleet.create(NewVm(name="one", plugin="web", restart="no"))
        fleet.domain.registry.move(record, "start", VmState.RUNNING)
        (process,) = host.living
        monkeypatch.setattr(RunningVm, "start_again", lambda *_: asyncio.sleep(0))  # as killed before it
        process.finish(EndKind.REBOOTED)
        while fleet.get("one").state is not VmState.STOPPED:  # noqa: ASYNC110  # a row
            await asyncio.sleep(0.01)
    monkeypatch.undo()
    monkeypatch.setattr(stopping, "AGENT_WAIT_SECONDS", 0.0)
    async with start_daemon(home, host, points.act) as fleet:
        await fleet.background.wait_idle()
        assert [process.spec.name for process in host.living] == ["one"]
        await fleet.delete("one", force=True)
