# SPDX-License-Identifier: Apache-2.0
"""Asking again for a snapshot or for forks with the same key gives what was made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.memory_fleet import open_fleet
from support.template_shapes import make_spec
from volant.errors import Conflict, InvalidInput
from volant.volantd.hypervisors.base import MemoryImage
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.resource import sweep
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord, WakeSource
from volant.volantd.vms.request_keys import RequestKey

KEY = RequestKey("uid 0", "k1", b"{}")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        await fleet.create(NewVm(name="a", plugin="web", network="vsock", start=False))
        yield fleet


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path, tmp_path / "vms")


async def test_a_snapshot_is_taken_once_for_a_key(fleet: Fleet, store: SnapshotStore) -> None:
    first = await acts.take(fleet, store, "a", "", KEY)
    assert await acts.take(fleet, store, "a", "", KEY) == first
    assert (await acts.take(fleet, store, "a", "", replace(KEY, text="k2"))).id != first.id
    assert (await acts.take(fleet, store, "a", "")).id != (await acts.take(fleet, store, "a", "")).id
    with pytest.raises(InvalidInput, match="something else"):
        await acts.take(fleet, store, "a", "", replace(KEY, content=b"other"))


async def test_forks_are_made_once_for_a_key_and_anew_where_a_kill_left_some(
    fleet: Fleet, store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked: list[Sequence[str]] = []

    async def fork(
        fleet: Fleet, _store: Any, _source: str, names: Sequence[str], keys: Sequence[Any]
    ) -> list[VmRecord]:
        forked.append(names)
        wanted = [
            NewVm(name=name, plugin="web", network="vsock", key=key)
            for name, key in zip(names, keys, strict=True)
        ]
        return [await fleet.create(request) for request in wanted]

    monkeypatch.setattr(acts, "_fork", fork)
    # As a daemon that was killed after the first of two left it.
    half = await fleet.create(NewVm(name="b", plugin="web", network="vsock", key=replace(KEY, text="k1#0")))
    made = await acts.fork(fleet, store, "a", ["b", "c"], KEY)
    assert half.id not in {vm.id for vm in made}
    again = await acts.fork(fleet, store, "a", ["b", "c"], KEY)
    assert [vm.id for vm in again] == [vm.id for vm in made]
    assert forked == [["b", "c"]]
    with pytest.raises(Conflict, match="taken"):
        await acts.fork(fleet, store, "a", ["b", "c"], replace(KEY, text="k2"))


async def test_what_a_fork_needed_goes_with_the_daemon_unless_a_copy_has_yet_to_wake(
    fleet: Fleet, store: SnapshotStore, tmp_path: Path
) -> None:
    kept = await acts.take(fleet, store, "a", "kept")
    cut_off = await acts.take(fleet, store, "a", ".fork-1")
    needed = await acts.take(fleet, store, "a", ".fork-2")
    place = store.find_place(needed.id)
    wake = WakeSource(image=MemoryImage(place), spec=make_spec(tmp_path), control_key="", host_key="")
    with_memory = needed.model_copy(update={"wake": wake})
    await acts.create_vm(fleet, with_memory, NewVm(name="late", plugin="", start=False))
    await sweep(fleet)
    assert {snapshot.id for snapshot in store.list_all()} == {kept.id, needed.id}
    assert not store.find_place(cut_off.id).exists()
    await fleet.delete("late", force=True)
    await sweep(fleet)
    assert [snapshot.id for snapshot in store.list_all()] == [kept.id]
