# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from volant.fledge.cache import PluginCache, make_key
from volant.fledge.known_digests import find_cache_folder

FACTS = {"name": "web", "version": "1.0.0"}


def store(home: Path, key: str, content: bytes = b"plugin") -> Path:
    plugin = home / f"{key}.tar.gz"
    plugin.write_bytes(content)
    PluginCache().store(key, plugin, FACTS)
    return plugin


def test_what_was_stored_comes_back_as_a_copy(home: Path) -> None:
    plugin = store(home, "k")
    target = home / "other"
    note = PluginCache().read("k")
    assert note is not None
    assert (note["name"], note["size_bytes"]) == ("web", 6)
    with target.open("w+b") as file:
        assert PluginCache().fetch("k", file.fileno())
    assert target.read_bytes() == b"plugin"
    assert target.stat().st_ino != plugin.stat().st_ino


def test_an_entry_outlives_the_plugin_but_not_a_change_of_it(home: Path) -> None:
    store(home, "gone").unlink()
    assert PluginCache().read("gone") is not None
    with store(home, "changed").open("ab") as stream:
        stream.write(b"!")
    assert PluginCache().read("changed") is None
    assert [entry.key for entry in PluginCache().entries()] == ["gone"]


def test_unknown_and_broken_entries_are_misses(home: Path) -> None:
    assert PluginCache().read("nothing") is None
    store(home, "k")
    (find_cache_folder() / "plugins/k.json").write_text("{")
    assert PluginCache().read("k") is None
    with (home / "x").open("w+b") as file:
        assert not PluginCache().fetch("nothing", file.fileno())


def test_prune_drops_the_least_recently_used(home: Path) -> None:
    for age, key in enumerate(("new", "middle", "old")):
        store(home, key, b"x" * 100)
        os.utime(find_cache_folder() / f"plugins/{key}.json", (1000 - age, 1000 - age))
    assert PluginCache().prune(keep_bytes=250) == (1, 100)
    assert [entry.key for entry in PluginCache().entries()] == ["new", "middle"]
    assert PluginCache().prune() == (2, 200)
    assert PluginCache().entries() == []


def test_a_cache_that_cannot_be_written_is_no_error(home: Path) -> None:
    find_cache_folder().parent.mkdir(parents=True)
    find_cache_folder().write_text("a file where the folder should be")
    store(home, "k")
    assert PluginCache().read("k") is None


def test_keys_depend_on_every_input() -> None:
    assert make_key({"a": 1}) == make_key({"a": 1})
    assert make_key({"a": 1}) != make_key({"a": 2})


def test_a_plugin_that_was_damaged_in_place_is_no_entry(home: Path) -> None:
    entry = store(home, "k", b"x" * 100_000)
    before = entry.stat()
    with entry.open("r+b") as file:
        file.seek(50_000)
        file.write(b"y")
    os.utime(entry, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert PluginCache().read("k") is not None, "neither size nor time tell"
    with (home / "x").open("w+b") as file:
        assert not PluginCache().fetch("k", file.fileno())
    assert (home / "x").stat().st_size == 0
    assert PluginCache().read("k") is None


def test_what_a_killed_build_left_without_a_note_is_swept(home: Path) -> None:
    store(home, "whole")
    folder = find_cache_folder() / "plugins"
    for name in ("lost.tar.gz", "lost.windows"):
        (folder / name).touch()
    now = time.time()
    PluginCache().prune(keep_bytes=1 << 30)
    assert len(list(folder.iterdir())) == 4, "it may be on its way"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 4000)
        PluginCache().prune(keep_bytes=1 << 30)
    assert sorted(path.name for path in folder.iterdir()) == ["whole.json", "whole.tar.gz"]
