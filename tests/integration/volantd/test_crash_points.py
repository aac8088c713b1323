# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed at every write of a VM's whole life; the next one finds nothing lost, leaked or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.crash_points import Crash, CrashPoints
from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from support.plugin_files import make_plugin
from volant.volantd import database
from volant.volantd.daemon import make_domain, sweep_all
from volant.volantd.hypervisors.base import EndKind
from volant.volantd.settings import Settings
from volant.volantd.vms import stopping
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS, VmState


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that costs no disk: some hundred daemons begin in it."""
    path = Path(tempfile.mkdtemp(prefix="volant-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def start_daemon(home: Path, host: MemoryHost, points: CrashPoints) -> AsyncIterator[Fleet]:
    settings = Settings(state_dir=home, runtime_dir=home / "run", kernel=home.parent / "vmlinux")
    with contextlib.ExitStack() as stack:
        fleet = Fleet(make_domain(settings, MemoryHypervisor(host, points.act), stack))
        try:
            await sweep_all(fleet)
            vms = [fleet.find(record.id) for record in fleet.list_all()]
            if adoptions := [vm.adoption for vm in vms if vm.adoption is not None]:
                await asyncio.wait(adoptions, timeout=60)
            yield fleet
        finally:
            # A dead daemon's tasks end, and what they would write is refused.
            await fleet.release_all()


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


async def live_until_killed(fleet: Fleet, points: CrashPoints) -> None:
    """Whoever waits for a dead daemon's answer waits in vain."""
    living = asyncio.create_task(live(fleet))
    while not living.done() and not points.is_dead:
        await asyncio.wait({living}, timeout=0.01)
    living.cancel()
    (result,) = await asyncio.gather(living, return_exceptions=True)
    if isinstance(result, BaseException) and not points.is_dead:
        raise result


def check_consistency(fleet: Fleet, host: MemoryHost, home: Path) -> None:
    records = fleet.list_all()
    running = {record.process for record in records if record.state in WITH_PROCESS}
    assert {process.identity for process in host.living} == running
    assert {path.name for path in (home / "vms").glob("*")} == {record.id for record in records}
    assert not (home / "lost+found").exists()
    assert [path for path in home.rglob("*") if path.name.startswith(".")] == []
    plugins = {plugin.checksum.removeprefix("sha256:") for plugin in fleet.domain.plugins.list_all()}
    assert {path.name for path in (home / "plugins" / "sha256").iterdir()} == plugins
    assert list((home / "plugins" / "incoming").iterdir()) == []


async def clear(fleet: Fleet, host: MemoryHost, home: Path) -> None:
    """What the next daemon found can be worked with."""
    for record in fleet.list_all():
        await fleet.delete(record.id, force=True)
    for plugin in fleet.domain.plugins.list_all():
        await fleet.domain.plugins.remove(plugin.name)
    check_consistency(fleet, host, home)
    assert host.living == []


async def test_a_kill_at_every_write_loses_leaks_and_doubles_nothing(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "AGENT_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(database, "SPARE_BYTES", 1 << 16)
    (memory / "vmlinux").write_bytes(b"\x7fELF")
    points = CrashPoints(monkeypatch)
    fatal = 0
    while True:
        fatal += 1
        home, host = memory / "home", MemoryHost()
        home.mkdir()
        points.arm(0)
        async with start_daemon(home, host, points):
            pass  # its own first start is killed by the other tests
        points.arm(fatal)
        with contextlib.suppress(Crash):
            async with start_daemon(home, host, points) as fleet:
                await live_until_killed(fleet, points)
        survived = not points.is_dead
        # The one that would tidy up is killed, too, each time elsewhere.
        points.arm(fatal % 11 + 1)
        with contextlib.suppress(Crash):
            async with start_daemon(home, host, points) as fleet:
                await fleet.background.wait_idle()
        points.arm(0)
        async with start_daemon(home, host, points) as fleet:
            await fleet.background.wait_idle()
            try:
                check_consistency(fleet, host, home)
                await clear(fleet, host, home)
            except AssertionError as error:
                raise AssertionError(f"killed at write {fatal}: {error}") from error
        shutil.rmtree(home)
        if survived:
            break
    print(f"killed at {fatal} writes")
    assert fatal > 100, "the writes were not walked"


async def test_a_guest_that_reboots_comes_back_though_the_daemon_is_killed_in_between(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "AGENT_WAIT_SECONDS", 0.0)
    (memory / "vmlinux").write_bytes(b"\x7fELF")
    points, home, host = CrashPoints(monkeypatch), memory / "home", MemoryHost()
    home.mkdir()
    async with start_daemon(home, host, points) as fleet:
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
    async with start_daemon(home, host, points) as fleet:
        await fleet.background.wait_idle()
        assert [process.spec.name for process in host.living] == ["one"]
        await fleet.delete("one", force=True)
