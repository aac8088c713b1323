# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed at every write of a deployment's life; the next one converges: nothing doubled, lost or left."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.crash_points import Crash, CrashPoints, Life, live_until_killed
from support.memory_daemon import start_daemon
from support.memory_hypervisor import MemoryHost
from support.plugin_files import make_plugin
from support.tended_daemon import answer_for_guests, end, settle, tended, wait_for_event
from volant.volantd import database
from volant.volantd.deployments.record import Template
from volant.volantd.deployments.requests import (
    DeploymentChange,
    DeploymentRequests,
    PolicyRequest,
    TemplateChange,
)
from volant.volantd.deployments.view import Member, look_at
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.states import WITH_PROCESS, VmState

STRIDE = int(os.environ.get("VOLANT_TEST_STRIDE", "9"))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that costs no disk: some hundred daemons begin in it."""
    answer_for_guests(monkeypatch)
    monkeypatch.setattr(database, "SPARE_BYTES", 1 << 16)
    path = Path(tempfile.mkdtemp(prefix="volant-", dir="/dev/shm"))
    (path / "vmlinux").write_bytes(b"\x7fELF")
    yield path
    shutil.rmtree(path)


async def live(fleet: Fleet) -> None:
    """It is made, grows, changes, goes back, shrinks and goes."""
    async with tended(fleet) as requests:
        requests.create("app", 1, Template(vm=NewVm(name="", plugin="web")), [], PolicyRequest(), {})
        await settle(fleet, requests, "app")
        requests.change("app", DeploymentChange(replicas=2))
        await settle(fleet, requests, "app")
        requests.change("app", DeploymentChange(replicas=1, change=TemplateChange(env={"A": "1"})))
        await settle(fleet, requests, "app")
        requests.roll_back("app", None)
        await settle(fleet, requests, "app")
        await end(fleet, requests, "app")


async def fail(fleet: Fleet) -> None:
    """A version that does not become healthy is undone, a VM that fails is replaced, and one that is deleted too."""
    async with tended(fleet) as requests:
        policy = PolicyRequest(healthy_seconds=0.01)
        requests.create("app", 1, Template(vm=NewVm(name="", plugin="web")), [], policy, {})
        await settle(fleet, requests, "app")
        requests.change("app", DeploymentChange(change=TemplateChange(env={"SICK": "1"})))
        await settle(fleet, requests, "app", status="rolled-back")
        (record,) = fleet.list_all()
        await fleet.delete(record.id, force=True)
        with fleet.domain.events.listen() as happenings:
            while [each.state for each in fleet.list_all() if each.id != record.id] != [VmState.RUNNING]:
                await wait_for_event(happenings)
        await end(fleet, requests, "app")


def check(fleet: Fleet, requests: DeploymentRequests, host: MemoryHost, home: Path) -> None:
    records = fleet.list_all()
    running = {record.process for record in records if record.state in WITH_PROCESS}
    assert {process.identity for process in host.living} == running
    assert {path.name for path in (home / "vms").glob("*")} == {record.id for record in records}
    members = {vm_id for each in requests.store.list_all() for vm_id in requests.store.list_vms(each)}
    assert members == {record.id for record in records}
    for deployment in requests.store.list_all():
        overview = look_at(requests.store, fleet.domain.registry, deployment)
        stopped = sum(map(was_stopped, overview.members))
        assert overview.status in (["degraded"] if stopped else ["ready", "rolled-back"]), overview
        assert len(overview.members) == overview.updated == deployment.replicas
        assert overview.ready == deployment.replicas - stopped
        assert not deployment.progress.leaving
        assert {record.definition.labels["volant.deployment"] for record in records} == {deployment.name}


@pytest.mark.parametrize("life", [live, fail])
async def test_a_kill_at_a_write_converges(memory: Path, life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every STRIDE-th; VOLANT_TEST_STRIDE=1: at every one."""
    points, plain = CrashPoints(monkeypatch), memory / "plain"
    plain.mkdir()
    await make_plain_home(plain)
    fatal, killed, survived = min(7, STRIDE), 0, False
    while not survived:
        home, host = memory / "home", MemoryHost()
        shutil.copytree(plain, home)
        points.arm(fatal)
        with contextlib.suppress(Crash):
            async with start_daemon(home, host, points.act) as fleet:
                await live_until_killed(fleet, points, life)
        survived = not points.is_dead
        try:
            await converge(home, host, points, fatal)
        except AssertionError as error:
            raise AssertionError(f"killed at write {fatal}: {error}") from error
        shutil.rmtree(home)
        fatal, killed = fatal + STRIDE, killed + 1
    assert killed > 100 // STRIDE, "the writes were not walked"


async def make_plain_home(home: Path) -> None:
    """What every life begins with: an empty database, and a plugin."""
    async with start_daemon(home, MemoryHost()) as fleet:
        await fleet.domain.plugins.install(io.BytesIO(make_plugin()), source="test")


async def converge(home: Path, host: MemoryHost, points: CrashPoints, fatal: int) -> None:
    """The next daemon is killed, too, each time elsewhere; the one after that has it as it was wanted."""
    points.arm(fatal % 23 + 1)
    with contextlib.suppress(Crash):
        async with start_daemon(home, host, points.act) as fleet, tended(fleet):
            await live_until_killed(fleet, points, wait_for_rest)
    points.arm(0)
    async with start_daemon(home, host, points.act) as fleet, tended(fleet) as requests:
        await wait_for_rest(fleet)
        check(fleet, requests, host, home)
        await end(fleet, requests, "app")
        check(fleet, requests, host, home)
        assert fleet.list_all() == []
        assert host.living == []


async def wait_for_rest(fleet: Fleet) -> None:
    """Whatever was begun has come to its end."""
    requests = DeploymentRequests(fleet.domain)
    with fleet.domain.events.listen() as happenings:
        while any(is_under_way(fleet, requests, each.name) for each in requests.store.list_all()):
            await wait_for_event(happenings)
    await fleet.background.wait_idle()


def is_under_way(fleet: Fleet, requests: DeploymentRequests, name: str) -> bool:
    deployment = requests.store.get(name)
    overview = look_at(requests.store, fleet.domain.registry, deployment)
    is_short = overview.status == "degraded" and not any(map(was_stopped, overview.members))
    return is_short or overview.status in ("progressing", "deleting") or bool(deployment.progress.leaving)


def was_stopped(member: Member) -> bool:
    """By a person whose deletion of it was cut off halfway: it stays so."""
    return member.record.state is VmState.STOPPED
