# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from support.crash_points import Crash, CrashPoints
from volant.errors import Conflict, InvalidInput, NotFound
from volant.process import run_tool
from volant.volantd.usage import Usage
from volant.volantd.volumes.store import VolumeStore, make_serial, read_volume_size


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    return VolumeStore(tmp_path, Usage())


def test_a_volume_is_a_whole_private_sparse_file_system(store: VolumeStore, tmp_path: Path) -> None:
    volume = store.create("data", 1 << 30)
    disk = store.find_disk(volume)
    run_tool(["e2fsck", "-f", "-n", str(disk)])
    assert disk.stat().st_size == 1 << 30
    assert store.measure(volume) < 40 << 20
    assert disk.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "volumes").stat().st_mode & 0o777 == 0o700
    assert store.list_all() == [volume] == [store.get("data")]
    assert len(make_serial(volume.id)) <= 20
    other = store.create("other", 1 << 30)
    headers = [run_tool(["dumpe2fs", "-h", str(store.find_disk(each))]).stdout for each in (volume, other)]
    uuids = {line for header in headers for line in header.splitlines() if "UUID:" in line}
    assert len(uuids) == 2


@pytest.mark.parametrize("name", ["", "Data", "a/b", "../x", "a\n", "-a", "a" * 64, "ü"])
def test_bad_names_are_refused(store: VolumeStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot make volume"):
        store.create(name, 1 << 24)
    assert not list(store.folder.glob("*"))


def test_a_name_is_taken_once(store: VolumeStore) -> None:
    store.create("data", 1 << 24)
    with pytest.raises(Conflict, match="there is one already"):
        store.create("data", 1 << 24)
    with pytest.raises(NotFound, match="cannot find volume date"):
        store.get("date")


def test_of_many_who_ask_for_a_name_at_once_one_gets_it(store: VolumeStore) -> None:
    def create(_: int) -> bool:
        try:
            store.create("data", 1 << 24)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1
    assert len(store.list_all()) == 1
    assert store.list_hidden() == []


@pytest.mark.parametrize("text", ["1M", "8M", "0", "-5G", "16T", "64T", "x", "9" * 400, "١G"])
def test_sizes_that_no_volume_can_have(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_volume_size(text)


def test_sizes_are_whole_mebibytes() -> None:
    assert read_volume_size("20000001") == 20 << 20
    assert read_volume_size("15T") == 15 << 40


def test_it_grows_and_never_shrinks(store: VolumeStore) -> None:
    volume = store.resize(store.create("data", 1 << 24), 1 << 25)
    assert store.get("data").size_bytes == store.find_disk(volume).stat().st_size == 1 << 25
    with pytest.raises(InvalidInput, match="smaller"):
        store.resize(volume, 1 << 24)


def test_a_resize_that_was_cut_off_is_finished_at_start(store: VolumeStore) -> None:
    volume = store.create("data", 1 << 24)
    store.resize(volume, 1 << 25)
    os.truncate(store.find_disk(volume), 1 << 24)
    store.sweep()
    assert store.find_disk(volume).stat().st_size == 1 << 25


def test_a_kill_at_any_write_of_a_resize_leaves_a_whole_volume(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = store.create("data", 1 << 24)
    points, truncate = CrashPoints(monkeypatch), os.truncate
    sizes: list[int] = []

    def truncate_or_die(path: Path, size_bytes: int) -> None:
        points.act()
        truncate(path, size_bytes)

    monkeypatch.setattr(os, "truncate", truncate_or_die)
    points.is_dead = True
    while points.is_dead:
        points.arm(len(sizes) + 1)
        with suppress(Crash):
            store.resize(store.get("data"), (len(sizes) + 2) << 24)
        is_dead = points.is_dead
        points.arm(0)
        store.sweep()
        found = store.get("data").size_bytes
        assert store.find_disk(volume).stat().st_size == found, "the disk is as large as the record says"
        assert found in {(len(sizes) + 2) << 24, sizes[-1] if sizes else 1 << 24}, (
            "as before, or as asked for"
        )
        sizes.append(found)
        points.is_dead = is_dead
    assert len(sizes) > 2, "its writes were walked"
    run_tool(["e2fsck", "-f", "-n", str(store.find_disk(volume))])


def test_what_was_cut_off_is_swept_and_what_cannot_be_read_is_left(store: VolumeStore) -> None:
    volume = store.create("data", 1 << 24)
    with pytest.raises(RuntimeError), store.draft() as (_, hidden):
        (hidden / "disk.raw").touch()
        raise RuntimeError
    (store.folder / ".half").mkdir()
    (store.folder / "odd").mkdir()
    store.find_record("odd").write_text("{")
    store.sweep()
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([volume.id, "odd"])
    assert store.list_all() == [volume]
    store.remove(volume)
    assert store.list_all() == []


def test_one_thing_at_a_time(store: VolumeStore) -> None:
    volume = store.create("data", 1 << 24)
    with store.busy(volume, "copied"):
        with pytest.raises(Conflict, match="volume data: it is being copied"):
            store.check_idle(volume.id)
        with pytest.raises(Conflict), store.busy(volume, "deleted"):
            pass
    store.check_idle(volume.id)
