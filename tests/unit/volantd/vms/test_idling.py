# SPDX-License-Identifier: Apache-2.0
"""When a VM is taken for idle, by a clock of the test's own; that it wakes is shown with real VMs, too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.memory_daemon import answer_for_agents, create_running, start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost
from volant.volantd.vms import idling
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.idling import IdleWatch
from volant.volantd.vms.networking import list_bound_ports
from volant.volantd.vms.states import VmState
from volant.volantd.vms.update import SLEEP, VmUpdate

SECONDS = 600


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the VM's process has used."""
    answer_for_agents(monkeypatch)
    used = [0.0]
    monkeypatch.setattr(idling, "read_cpu_seconds", lambda _: used[0])
    return used


async def create(fleet: Fleet) -> None:
    record = await fleet.create(NewVm(name="one", plugin="web", suspend_when_idle_seconds=SECONDS))
    fleet.domain.registry.move(record, "start", VmState.RUNNING)


async def test_it_sleeps_after_its_time_and_not_while_somebody_is_in_it(
    tmp_path: Path, cpu: list[float]
) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create(fleet)
        watch, now = IdleWatch(fleet), asyncio.get_running_loop().time()
        await watch.look(now + 1)
        await watch.look(now + SECONDS - 1)
        assert fleet.get("one").state is VmState.RUNNING
        with fleet.find(fleet.get("one").id).use.session():
            await watch.look(now + 2 * SECONDS)
        await watch.look(now + 3 * SECONDS - 1)
        assert fleet.get("one").state is VmState.RUNNING
        await watch.look(now + 3 * SECONDS + 1)
        record = fleet.get("one")
        assert (record.state, record.reason) == (VmState.SUSPENDED, "idle for 600 s")
        await watch.look(now + 9 * SECONDS)
        await fleet.delete("one")


async def test_one_that_works_without_talking_is_not_idle(tmp_path: Path, cpu: list[float]) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create(fleet)
        watch, now = IdleWatch(fleet), asyncio.get_running_loop().time() + 1
        await watch.look(now)
        cpu[0] += 0.5 * SECONDS
        await watch.look(now + SECONDS + 1)
        assert fleet.get("one").state is VmState.RUNNING
        cpu[0] += 0.05 * SECONDS
        await watch.look(now + 2 * SECONDS + 3)
        assert fleet.get("one").state is VmState.SUSPENDED


async def test_whoever_connects_wakes_it_once_though_the_daemon_came_back_meanwhile(
    tmp_path: Path, cpu: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"awake")
        writer.close()

    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        await create(fleet)
        await fleet.suspend("one")
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        (port,) = fleet.get("one").ports
        (inner,) = list_bound_ports(fleet.get("one"))
        assert (inner.host_ip, inner.guest_port) != (port.host_ip, port.host_port)
        guest = await asyncio.start_server(answer, inner.host_ip, inner.host_port)

        async def ask() -> bytes:
            reader, writer = await asyncio.open_connection(port.host_ip, port.host_port)
            try:
                return await reader.read()
            finally:
                writer.close()

        assert await asyncio.gather(*(ask() for _ in range(50))) == [b"awake"] * 50
        assert fleet.get("one").state is VmState.RUNNING
        assert len(host.living) == 1
        states = [
            event.data["status"] for event in fleet.domain.events.read_after(0) if event.kind == "state"
        ]
        assert states.count("starting") == 2
        guest.close()
        await fleet.delete("one", force=True)


async def test_one_that_is_told_later_sleeps_once_the_daemon_holds_its_ports(
    tmp_path: Path, cpu: list[float]
) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create_running(fleet, "one")
        watch, now = IdleWatch(fleet), asyncio.get_running_loop().time() + 1
        record = await fleet.update("one", VmUpdate(suspend_when_idle_seconds=SECONDS))
        assert record.pending == (SLEEP,)
        await watch.look(now)
        await watch.look(now + SECONDS + 1)
        assert fleet.get("one").state is VmState.RUNNING
        # Sleeping by somebody's word and waking is a start, too.
        await fleet.suspend("one")
        assert (await fleet.resume("one")).pending == ()
        now = asyncio.get_running_loop().time() + 1
        await watch.look(now)
        await watch.look(now + SECONDS + 1)
        assert fleet.get("one").state is VmState.SUSPENDED
        (port,) = fleet.get("one").ports
        await fleet.update("one", VmUpdate(suspend_when_idle_seconds=0))
        await fleet.resume("one")
        # passt is to bind it: the daemon has let it go.
        (await asyncio.start_server(lambda *_: None, port.host_ip, port.host_port)).close()
        await fleet.delete("one", force=True)
