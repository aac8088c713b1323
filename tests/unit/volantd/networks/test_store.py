# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from volant.errors import Conflict, InvalidInput, NotFound
from volant.volantd.database import Database
from volant.volantd.networks.store import MIGRATIONS, NetworkStore
from volant.volantd.usage import Usage


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
def store(tmp_path: Path, usage: Usage) -> Iterator[NetworkStore]:
    database = Database(tmp_path / "volant.db")
    database.bring_up_to_date({"networks": MIGRATIONS})
    yield NetworkStore(database, usage)
    database.close()


def test_one_is_always_there_and_stays(store: NetworkStore) -> None:
    assert [network.name for network in store.list_all()] == ["default"]
    with pytest.raises(Conflict, match="VMs that ask for no other"):
        store.remove("default")


@pytest.mark.parametrize("damaged", ["garbage", "[]", "5"])
def test_one_whose_labels_cannot_be_read_is_there_without_them(
    store: NetworkStore, tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.create("back", internal=True, labels={"a": "b"})
    Database(tmp_path / "volant.db").execute("UPDATE networks SET labels = ? WHERE name = 'back'", (damaged,))
    assert (store.get("back").internal, store.get("back").labels) == (True, {})
    assert "its labels cannot be read" in caplog.text


def test_networks_are_made_and_removed_by_name(store: NetworkStore) -> None:
    made = store.create("back", internal=True, labels={"a": "b"})
    assert (made.internal, made.labels) == (True, {"a": "b"})
    assert store.get("back") == made
    assert store.list_internal() == {"back"}
    store.check(["back", "default"])
    with pytest.raises(Conflict, match="there is one already"):
        store.create("back", internal=False, labels={})
    store.remove("back")
    with pytest.raises(NotFound, match="cannot find network back"):
        store.check(["default", "back"])


@pytest.mark.parametrize("name", ["", "Back", "a b", "back\n", "-x", "x" * 64, "bridged", "host", "../x"])
def test_what_is_no_name_is_refused(store: NetworkStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot make network"):
        store.create(name, internal=False, labels={})


def test_one_that_a_vm_is_in_stays(store: NetworkStore, usage: Usage) -> None:
    usage.ask("VM", "vms", lambda used, name: ["web"] if (used, name) == ("network", "back") else [])
    network = store.create("back", internal=False, labels={})
    assert store.find_vms(network) == ["web"]
    with pytest.raises(Conflict, match="cannot delete network back: 1 VM") as caught:
        store.remove("back")
    assert list(caught.value.details) == ["VM web"]
