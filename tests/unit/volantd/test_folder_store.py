# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import BaseModel

from volant.volantd.folder_store import FolderStore


class Thing(BaseModel):
    name: str


@pytest.fixture
def store(tmp_path: Path) -> FolderStore[Thing]:
    return FolderStore(tmp_path / "things", Thing, "thing")


def put(store: FolderStore[Thing], name: str) -> str:
    with store.draft() as (identity, hidden):
        (hidden / "content").write_text(name)
        store.put(identity, Thing(name=name), hidden)
    return identity


def test_it_is_there_once_it_is_whole_and_for_its_owner_alone(store: FolderStore[Thing]) -> None:
    assert store.read_all(lambda thing: thing.name) == []
    with pytest.raises(RuntimeError), store.draft("half") as (_, hidden):
        (hidden / "content").touch()
        raise RuntimeError
    second, first = put(store, "b"), put(store, "a")
    assert [thing.name for thing in store.read_all(lambda thing: thing.name)] == ["a", "b"]
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([first, second])
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert store.find_record(first).stat().st_mode & 0o777 == 0o600
    store.write(first, Thing(name="c"))
    assert store.read(first) == Thing(name="c")


def test_one_that_cannot_be_read_is_as_none(
    store: FolderStore[Thing], caplog: pytest.LogCaptureFixture
) -> None:
    broken, lost = put(store, "a"), put(store, "b")
    store.find_record(broken).write_text("{")
    store.find_record(lost).unlink()
    assert (store.read("none"), store.read_all(lambda thing: thing.name)) == (None, [])
    assert "cannot be read" in caplog.text
    assert "has lost its description" in caplog.text
    assert len(list(store.folder.iterdir())) == 2


def test_a_removal_that_was_cut_off_is_finished_at_start(store: FolderStore[Thing]) -> None:
    kept, going = put(store, "a"), put(store, "b")
    store.find_place(going).rename(store.folder / f".{going}")
    assert store.list_hidden() == [store.folder / f".{going}"]
    store.sweep()
    store.take_away("none")
    assert [path.name for path in store.folder.iterdir()] == [kept]
    store.take_away(kept)
    assert list(store.folder.iterdir()) == []


def test_a_removal_leaves_the_draft_of_the_next_one(store: FolderStore[Thing]) -> None:
    identity = put(store, "a")
    with store.draft(identity) as (_, hidden):
        (hidden / "content").write_text("b")
        store.take_away(identity)
        store.take_away(identity)
        store.put(identity, Thing(name="b"), hidden)
    assert store.read(identity) == Thing(name="b")
    assert store.list_hidden() == []


def test_what_a_killed_daemon_was_writing_about_a_thing_goes_at_the_next_start(
    store: FolderStore[Thing],
) -> None:
    identity = put(store, "a")
    partial = store.find_place(identity) / ".volant-8b931b1c4a89672f.partial"
    partial.write_text('{"na')
    store.sweep()
    assert not partial.exists()
    assert store.read(identity) == Thing(name="a")
    assert (store.find_place(identity) / "content").read_text() == "a"


def test_of_many_who_want_the_same_one_gets_it(store: FolderStore[Thing]) -> None:
    names: list[str] = []

    def check() -> None:
        if store.read_all(lambda thing: thing.name):
            raise LookupError

    def make(number: int) -> None:
        with suppress(LookupError), store.draft() as (identity, hidden):
            store.put(identity, Thing(name=str(number)), hidden, check)
            names.append(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert [thing.name for thing in store.read_all(lambda thing: thing.name)] == names
    assert len(names) == 1
    assert store.list_hidden() == []
