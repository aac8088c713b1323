# SPDX-License-Identifier: Apache-2.0
"""What a VM becomes again, from each of its states; that a guest goes on where it was is shown with real VMs."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.memory_daemon import answer_for_agents, create_running, start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.errors import Conflict, InvalidInput, WrongState
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.resource import open_store
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.states import VmState


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return answer_for_agents(monkeypatch)


async def test_it_goes_on_where_it_was_from_every_state(tmp_path: Path, told: list[str]) -> None:
    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        store = open_store(fleet.domain)
        record = await create_running(fleet, "one")
        then = host.living[0].content
        await acts.take(fleet, store, "one", "then")
        for act in (None, fleet.pause, fleet.suspend, lambda name: fleet.stop(name, force=True)):
            if act is not None:
                await act("one")
            restored = await acts.restore(fleet, store, "one", "then")
            (process,) = host.living
            assert (restored.state, restored.id, restored.definition.restores_to) == (
                VmState.RUNNING, record.id, None,
            )  # fmt: skip
            assert process.spec.wakes_from is not None
            assert process.spec.wakes_from.state.read_text() == then
            assert told[-1] == "wake"
        await fleet.delete("one", force=True)
        await acts.delete(fleet, store, "then")


async def test_what_cannot_wake_boots_from_the_snapshots_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        store = open_store(fleet.domain)
        await create_running(fleet, "one")
        await acts.take(fleet, store, "one", "then")
        monkeypatch.setattr(MemoryHypervisor, "version", "2")
        assert (await acts.restore(fleet, store, "one", "then")).state is VmState.STARTING
        assert [event.kind for event in fleet.domain.events.read_after(0)].count("cold_boot") == 1


async def test_a_snapshot_of_the_disk_alone_leaves_a_stopped_vm_stopped(tmp_path: Path) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        store = open_store(fleet.domain)
        await create_running(fleet, "one")
        await fleet.stop("one", force=True)
        await acts.take(fleet, store, "one", "then")
        assert (await acts.restore(fleet, store, "one", "then")).state is VmState.STOPPED
        await fleet.start("one")
        assert (await acts.restore(fleet, store, "one", "then")).state is VmState.STARTING


async def test_only_a_snapshot_of_this_very_vm_and_only_once_nobody_has_to_wake_from_it_is_it_deleted(
    tmp_path: Path,
) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        store = open_store(fleet.domain)
        await create_running(fleet, "one")
        await create_running(fleet, "two")
        snapshot = await acts.take(fleet, store, "one", "then")
        with pytest.raises(InvalidInput, match="that is of VM one"):
            await acts.restore(fleet, store, "two", "then")
        await acts.create_vm(fleet, snapshot, NewVm(name="later", plugin="", start=False))
        with pytest.raises(Conflict, match="cannot delete snapshot then: 1 VM wake from it") as caught:
            await acts.delete(fleet, store, "then")
        assert not isinstance(caught.value, WrongState)
        await fleet.delete("later")
        await acts.delete(fleet, store, "then")
        assert store.list_all() == []
