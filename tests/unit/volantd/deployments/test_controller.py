# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.memory_daemon import start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost
from support.tended_daemon import HEALTHY, SICK, answer_for_guests, end, find_status, settle, tended
from volant.contract.agent import AgentState
from volant.errors import Conflict
from volant.volantd.deployments import planning
from volant.volantd.deployments.balancing import Balancing
from volant.volantd.deployments.record import Deployment, Template
from volant.volantd.deployments.requests import (
    DeploymentChange,
    DeploymentRequests,
    PolicyRequest,
    TemplateChange,
)
from volant.volantd.deployments.view import look_at
from volant.volantd.hypervisors.base import EndKind
from volant.volantd.vms import running_vm
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.monitor import VmMonitor
from volant.volantd.vms.record import VmRecord, WorkloadSettings
from volant.volantd.vms.states import VmState

WEB = Template(vm=NewVm(name="", plugin="web"))


@dataclass
class App:
    """A deployment `app` of two VMs."""

    fleet: Fleet
    host: MemoryHost
    requests: DeploymentRequests

    async def settle(self, status: str = "ready") -> None:
        await settle(self.fleet, self.requests, "app", status=status)

    async def wait_for(self, condition: object) -> None:
        with self.fleet.domain.events.listen() as happenings:
            while not condition():  # type: ignore[operator]
                await asyncio.wait_for(happenings.get(), 60)

    def crash(self, name: str) -> str:
        record = self.fleet.get(name)
        process = next(each for each in self.host.living if each.identity == record.process)
        process.finish(EndKind.CRASHED)
        return record.id

    @property
    def names(self) -> list[str]:
        return [record.name for record in self.fleet.list_all()]

    @property
    def failures(self) -> dict[str, int]:
        return self.requests.store.get("app").progress.failures


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    answer_for_guests(monkeypatch)
    monkeypatch.setattr(planning, "find_delay_seconds", lambda failures: 0.01 * (failures + 1))
    host = MemoryHost()
    home = tmp_path / "home"
    home.mkdir()
    async with start_daemon_with_plugin(home, host) as fleet, tended(fleet) as requests:
        requests.create("app", 2, WEB, [], PolicyRequest(), {"team": "a"})
        found = App(fleet, host, requests)
        await found.settle()
        yield found
        await end(fleet, requests, "app")
        assert fleet.list_all() == []
        assert host.living == []


async def test_one_whose_process_crashes_is_replaced_and_not_restarted(app: App) -> None:
    before = app.crash("app-1")
    await app.wait_for(lambda: before not in {record.id for record in app.fleet.list_all()})
    await app.wait_for(lambda: app.names == ["app-1", "app-2"])
    await app.settle()
    assert app.failures == {"app-1": 1}


async def test_one_that_crashes_again_and_again_is_left_to_be_looked_at(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MOST_REPLACEMENTS", 2)
    for _ in range(2):
        before = app.crash("app-1")
        await app.wait_for(lambda: before not in {record.id for record in app.fleet.list_all()})  # noqa: B023
        await app.wait_for(lambda: app.names == ["app-1", "app-2"])
        await app.settle()
    app.crash("app-1")
    await app.wait_for(lambda: "is not replaced any more" in app.requests.store.get("app").progress.reason)
    assert find_status(app.fleet, app.requests, "app") == "degraded"
    app.requests.change("app", DeploymentChange(change=TemplateChange(env={"A": "1"})))
    await app.settle()
    assert app.failures == {}


async def test_its_failures_are_forgotten_after_a_while(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "STABLE_SECONDS", 0.05)
    before = app.crash("app-1")
    await app.wait_for(lambda: before not in {record.id for record in app.fleet.list_all()})
    while app.failures:  # noqa: ASYNC110  # a row; forgetting is no news
        await asyncio.sleep(0.01)
    await app.settle()


async def test_one_that_a_person_stopped_stays_stopped(app: App) -> None:
    await app.fleet.stop("app-2", force=True)
    await app.wait_for(lambda: app.requests.store.get("app").progress.reason == "app-2 was stopped by hand")
    assert find_status(app.fleet, app.requests, "app") == "degraded"
    app.requests.change("app", DeploymentChange(replicas=3))
    await app.settle("degraded")
    assert app.fleet.get("app-2").state is VmState.STOPPED
    assert app.names == ["app-1", "app-2", "app-3"]
    await app.fleet.start("app-2")
    await app.wait_for(lambda: find_status(app.fleet, app.requests, "app") == "ready")


async def test_one_that_a_person_deleted_is_replaced(app: App) -> None:
    before = app.fleet.get("app-1").id
    await app.fleet.delete("app-1", force=True)
    await app.wait_for(lambda: app.names == ["app-1", "app-2"] and app.fleet.get("app-1").id != before)
    await app.settle()


async def test_an_update_that_does_not_become_healthy_is_undone(app: App) -> None:
    before = {record.id for record in app.fleet.list_all()}
    app.requests.change(
        "app",
        DeploymentChange(
            change=TemplateChange(env={"SICK": "1"}), policy=PolicyRequest(healthy_seconds=0.05)
        ),
    )
    await app.settle("rolled-back")
    assert {record.id for record in app.fleet.list_all()} == before, "no old one was touched"
    deployment = app.requests.store.get("app")
    assert deployment.progress.rolled_back.endswith("app-3: sick")
    assert (deployment.revision, deployment.progress.base) == (3, None)


async def test_while_all_are_unhealthy_those_that_are_up_are_sent_work_and_told_as_unhealthy(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: asyncio.Queue[set[str]] = asyncio.Queue()
    follow = Balancing.follow

    def note(balancing: Balancing, deployment: Deployment, serving: Sequence[VmRecord]) -> None:
        told.put_nowait({record.name for record in serving})
        follow(balancing, deployment, serving)

    monkeypatch.setattr(Balancing, "follow", note)

    async def turn(name: str, state: AgentState) -> set[str]:
        """Who is sent work then."""
        while not told.empty():
            told.get_nowait()
        app.fleet.find(app.fleet.get(name).id)._note_state(state)
        return await asyncio.wait_for(told.get(), 60)

    assert await turn("app-1", SICK) == {"app-2"}
    assert await turn("app-2", SICK) == {"app-1", "app-2"}, "late answers are better than none"
    overview = look_at(app.requests.store, app.fleet.domain.registry, app.requests.store.get("app"))
    assert [(member.is_ready, member.reason) for member in overview.members] == [(False, "sick")] * 2
    assert overview.status == "degraded"
    assert await turn("app-1", HEALTHY) == {"app-1"}
    assert await turn("app-2", HEALTHY) == {"app-1", "app-2"}
    assert find_status(app.fleet, app.requests, "app") == "ready"


async def test_what_cannot_be_made_is_told_and_tried_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    create, refusals = app.fleet.create, [Conflict("cannot create it now"), Conflict("cannot create it now")]

    async def refuse(*arguments: object) -> object:
        if refusals:
            raise refusals.pop()
        return await create(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(app.fleet, "create", refuse)
    app.requests.change("app", DeploymentChange(replicas=3))
    await app.settle()
    assert app.failures == {"app-3": 2}


async def test_what_its_next_vm_needs_is_not_removed(app: App) -> None:
    with pytest.raises(Conflict, match="1 deployment"):
        await app.fleet.domain.plugins.remove("web")


async def test_one_that_goes_is_given_the_time_that_it_is_to_have(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    async def ask_to_stop(monitor: VmMonitor, timeout_seconds: float) -> str:
        given.append(timeout_seconds)
        return ""

    monkeypatch.setattr(running_vm, "ask_agent_to_stop", ask_to_stop)
    slow = Template(vm=NewVm(name="", plugin="web", workload=WorkloadSettings(stop_timeout_seconds=45.0)))
    app.requests.change("app", DeploymentChange(template=slow))
    await app.settle()
    app.requests.change("app", DeploymentChange(replicas=1))
    await app.settle()
    assert given == [10.0, 10.0, 45.0]
