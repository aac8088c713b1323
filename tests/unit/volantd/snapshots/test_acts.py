# SPDX-License-Identifier: Apache-2.0
"""Asking again for a snapshot or for forks with the same key gives what was made."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from support.plugin_files import make_plugin
from volant.errors import Conflict, InvalidInput
from volant.volantd.daemon import make_domain
from volant.volantd.settings import Settings
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.request_keys import RequestKey

KEY = RequestKey("uid 0", "k1", b"{}")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF")
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path, kernel=tmp_path / "vmlinux")
    with contextlib.ExitStack() as stack:
        fleet = Fleet(make_domain(settings, MemoryHypervisor(MemoryHost()), stack))
        await fleet.domain.plugins.install(io.BytesIO(make_plugin("web")), source="web")
        await fleet.create(NewVm(name="a", plugin="web", network="vsock", start=False))
        yield fleet
        for record in fleet.list_all():
            await fleet.delete(record.id, force=True)
        await fleet.release_all()


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
