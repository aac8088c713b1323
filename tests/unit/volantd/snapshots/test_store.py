# SPDX-License-Identifier: Apache-2.0
"""Snapshots are there whole or not at all, are found without a database, and leave what others stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import Conflict, NotFound
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.record import VmDefinition, VmResources


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path, tmp_path / "vms")


def add(store: SnapshotStore, name: str, created_at: str = "2026-01-01T00:00:00.000Z") -> Snapshot:
    with store.draft() as (identity, hidden):
        snapshot = Snapshot(
            id=identity, name=name, vm_id="1", vm_name="db", plugin_name="pg", plugin_version="1.0.0",
            definition=VmDefinition(resources=VmResources(vcpu=1, memory_mb=128), network="user"), layer=None,
            wake=None, pause_ms=0, created_at=created_at,
        )  # fmt: skip
        store.publish(snapshot, hidden)
    return snapshot


def test_a_snapshot_is_found_by_name_and_id_oldest_first(store: SnapshotStore) -> None:
    second = add(store, "second", "2026-01-02T00:00:00.000Z")
    first = add(store, "first")
    assert store.list_all() == [first, second]
    assert store.get("second") == store.get(second.id) == second
    place = store.find_place(first.id)
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "snapshot.json").stat().st_mode & 0o777 == 0o600
    assert store.measure(first) > 0
    with pytest.raises(Conflict, match="the name is taken"):
        store.check_free("first")
    # The name was free when its taking began.
    with pytest.raises(Conflict, match="the name is taken"):
        add(store, "first")
    assert store.list_hidden() == []
    with pytest.raises(NotFound, match="cannot find snapshot third"):
        store.get("third")


def test_one_that_fails_on_the_way_leaves_nothing(store: SnapshotStore) -> None:
    with pytest.raises(RuntimeError), store.draft() as (_, hidden):
        (hidden / "memory").write_bytes(b"half")
        raise RuntimeError
    assert list(store.folder.iterdir()) == []


def test_what_was_cut_off_goes_at_the_next_start_and_the_rest_stays(store: SnapshotStore) -> None:
    kept = add(store, "kept")
    (store.folder / ".cut-off").mkdir()
    (store.folder / ".cut-off" / "memory").touch()
    store.sweep()
    assert [path.name for path in store.folder.iterdir()] == [kept.id]


def test_one_that_cannot_be_read_keeps_nobody_from_the_others(store: SnapshotStore) -> None:
    kept, broken = add(store, "kept"), add(store, "broken")
    (store.find_place(broken.id) / "snapshot.json").write_text("{")
    assert store.list_all() == [kept]


def test_removing_frees_its_files(store: SnapshotStore) -> None:
    snapshot = add(store, "gone")
    store.remove(snapshot)
    assert list(store.folder.iterdir()) == []


def test_a_plugin_or_secret_that_it_needs_is_in_use(store: SnapshotStore) -> None:
    add(store, "before")
    (snapshot,) = store.list_all()
    assert store.find_users("plugin", snapshot.plugin_reference) == ["before"]
    assert store.find_users("plugin", "other:1.0.0") == store.find_users("secret", "key") == []
