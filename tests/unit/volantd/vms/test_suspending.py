# SPDX-License-Identifier: Apache-2.0
"""What becomes of a VM whose sleep is disturbed; that a sleeping guest goes on is shown with real VMs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.memory_daemon import answer_for_agents, create_running, start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost, MemoryHypervisor, MemoryMachine
from volant.contract.agent import AgentState
from volant.errors import Conflict, StorageFull, ToolFailed, WrongState
from volant.volantd.hypervisors.base import EndKind
from volant.volantd.vms.held_ports import HeldPorts
from volant.volantd.vms.kept_memory import has_memory
from volant.volantd.vms.states import VmState


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return answer_for_agents(monkeypatch)


async def test_it_sleeps_over_the_daemons_end_and_goes_on(tmp_path: Path, told: list[str]) -> None:
    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        await create_running(fleet, "one")
        assert (await fleet.suspend("one")).state is VmState.SUSPENDED
        assert host.living == []
        with pytest.raises(WrongState, match="it is suspended"):
            await fleet.suspend("one")
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        assert fleet.get("one").state is VmState.SUSPENDED
        assert (await fleet.resume("one")).state is VmState.RUNNING
        assert [process.spec.name for process in host.living] == ["one"]
        assert host.misfits == []
        assert told == ["freeze", "wake"]
        await fleet.delete("one", force=True)


async def test_no_room_for_the_memory_leaves_it_running(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StorageFull("cannot keep the machine's memory: no space left")

    monkeypatch.setattr(MemoryMachine, "save_memory", fail)
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        record = await create_running(fleet, "one")
        with pytest.raises(StorageFull):
            await fleet.suspend("one")
        await fleet.background.wait_idle()
        assert (fleet.get("one").state, told) == (VmState.RUNNING, ["freeze", "wake"])
        folder = fleet.find(record.id).files.folder
        assert [path.name for path in folder.iterdir() if "memory" in path.name or path.name == "held"] == []


async def test_memory_of_another_hypervisor_boots_and_says_so(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        record = await create_running(fleet, "one")
        was_well = AgentState(phase="running", health="healthy")
        fleet.domain.registry.update(record, guest=was_well, pending=["env"])
        await fleet.suspend("one")
        monkeypatch.setattr(MemoryHypervisor, "version", "2")
        booting = await fleet.resume("one")
        assert (booting.state, booting.guest, booting.pending) == (VmState.STARTING, None, ())
        (event,) = [event for event in fleet.domain.events.read_after(0) if event.kind == "cold_boot"]
        assert event.data["cause"] == "cannot wake VM one: its memory is of 1, and this host has 2"
        assert not has_memory(fleet.find(record.id).files.folder)


async def test_what_another_try_may_mend_leaves_it_asleep(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise Conflict("cannot start one: a port is in use")

    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create_running(fleet, "one")
        await fleet.suspend("one")
        with monkeypatch.context() as patch:
            patch.setattr(MemoryHypervisor, "start", fail)
            with pytest.raises(Conflict, match="a port is in use"):
                await fleet.resume("one")
        record = fleet.get("one")
        assert (record.state, record.reason) == (VmState.SUSPENDED, "cannot start one: a port is in use")
        assert (await fleet.resume("one")).state is VmState.RUNNING


async def test_a_process_that_dies_while_it_is_put_to_sleep_is_told(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = MemoryHost()

    async def die(*_: object) -> None:
        host.living[0].finish(EndKind.CRASHED)
        raise ToolFailed("cannot save the memory of one: the connection is gone")

    monkeypatch.setattr(MemoryMachine, "save_memory", die)
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        await create_running(fleet, "one")
        with pytest.raises(ToolFailed):
            await fleet.suspend("one")
        await fleet.background.wait_idle()
        assert fleet.get("one").state in (VmState.RUNNING, VmState.FAILED)
        monitor = fleet.find(fleet.get("one").id).monitor
        if monitor is not None:
            await monitor.wait_ended()
        assert fleet.get("one").state is VmState.FAILED


async def test_who_connects_while_the_daemon_starts_wakes_it_once(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ports of one whose daemon was killed on the way are open before its row says that it is asleep."""
    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        record = await create_running(fleet, "one")
        definition = record.definition.model_copy(update={"suspend_when_idle_seconds": 3600})
        fleet.domain.registry.update(record, definition=definition)
        asleep = await fleet.suspend("one")
        fleet.domain.registry.move(asleep, "resume", VmState.STARTING)
    clients: list[asyncio.Future[None]] = []

    async def hold(ports: HeldPorts, *_: object) -> None:
        if not clients:
            clients.extend(asyncio.ensure_future(ports._wake()) for _ in range(3))
            await asyncio.sleep(0)

    monkeypatch.setattr(HeldPorts, "hold", hold)
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        await asyncio.wait_for(asyncio.gather(*clients), 60)
        assert fleet.get("one").state is VmState.RUNNING
        assert [process.spec.name for process in host.living] == ["one"]
        assert (host.misfits, told) == ([], ["freeze", "wake"])
