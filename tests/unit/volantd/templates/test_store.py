# SPDX-License-Identifier: Apache-2.0
"""Templates on disk: whole or not at all, bounded, and gone when programs were exchanged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.volantd.hypervisors.base import MemoryImage
from volant.volantd.templates import store as templates_store
from volant.volantd.templates.store import Template, TemplateStore


@pytest.fixture
def store(tmp_path: Path) -> TemplateStore:
    return TemplateStore(tmp_path / "templates")


def publish(
    store: TemplateStore,
    tmp_path: Path,
    key: str,
    versions: str = "v",
    size_bytes: int = 10,
    kernel_file: Path | None = None,
    payload: Path | None = None,
) -> None:
    template = Template(
        key=key, versions=versions, image=MemoryImage(store.folder / key, True, True), vcpu=1, memory_mb=128,
        accelerator="tcg", kernel="6.1", has_network=True, size_bytes=size_bytes, took_seconds=1.0, created_at="",
        kernel_file=kernel_file, payload=payload,
    )  # fmt: skip
    with store.draft(key) as (_, hidden):
        (hidden / "memory").write_bytes(b"pages")
        store.publish(template, hidden)


def list_keys(store: TemplateStore) -> list[str]:
    return [template.key for template in store.list_all()]


def test_a_template_is_there_once_it_is_whole(store: TemplateStore, tmp_path: Path) -> None:
    assert (store.find("a"), store.list_all(), store.list_hidden()) == (None, [], [])
    with store.draft("a") as (_, hidden):
        (hidden / "memory").touch()
        assert store.list_hidden() == [hidden]
        # A VM that is made meanwhile looks for it.
        assert store.find("a") is None
        assert (hidden / "memory").exists()
    assert store.list_hidden() == []
    publish(store, tmp_path, "a")
    found = store.find("a")
    assert found is not None
    assert (found.image.memory.read_bytes(), found.image.is_copied) == (b"pages", True)
    assert store.find_record("a").stat().st_mode & 0o777 == 0o600


def test_what_was_used_longest_ago_goes_first(
    store: TemplateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates_store, "MOST_TEMPLATES", 2)
    for seconds, key in enumerate(("a", "b")):
        publish(store, tmp_path, key)
        os.utime(store.find_record(key), (seconds, seconds))
    store.find("a")
    publish(store, tmp_path, "c")
    assert sorted(list_keys(store)) == ["a", "c"]
    monkeypatch.setattr(templates_store, "MOST_BYTES", 25)
    publish(store, tmp_path, "d", size_bytes=20)
    assert list_keys(store) == ["d"]
    assert store.list_hidden() == []


def test_templates_of_exchanged_programs_go(store: TemplateStore, tmp_path: Path) -> None:
    publish(store, tmp_path, "a", versions="old")
    publish(store, tmp_path, "b", versions="new")
    assert list_keys(store) == ["b"]


def test_templates_of_two_kernels_stay_beside_each_other_while_both_are_there(
    store: TemplateStore, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.touch()
    other.touch()
    publish(store, tmp_path, "a", versions="1", kernel_file=one)
    publish(store, tmp_path, "b", versions="2", kernel_file=other)
    assert sorted(list_keys(store)) == ["a", "b"]
    publish(store, tmp_path, "c", versions="3", kernel_file=other)
    assert sorted(list_keys(store)) == ["a", "c"]
    one.unlink()
    publish(store, tmp_path, "d", versions="3", kernel_file=other)
    assert sorted(list_keys(store)) == ["c", "d"]


def test_a_workloads_template_goes_with_its_plugin(store: TemplateStore, tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.touch()
    publish(store, tmp_path, "a")
    publish(store, tmp_path, "b", payload=payload)
    store.remove_orphans()
    assert sorted(list_keys(store)) == ["a", "b"]
    payload.unlink()
    store.remove_orphans()
    assert list_keys(store) == ["a"]
    publish(store, tmp_path, "c", payload=payload)
    publish(store, tmp_path, "d")
    assert sorted(list_keys(store)) == ["a", "d"]


def test_one_that_cannot_be_read_is_removed(store: TemplateStore, tmp_path: Path) -> None:
    publish(store, tmp_path, "a")
    store.find_record("a").write_text("{}")
    assert store.list_all() == []
    assert store.find("a") is None
    assert not (store.folder / "a").exists()
    store.remove("never there")
