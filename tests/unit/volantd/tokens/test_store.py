# SPDX-License-Identifier: Apache-2.0
"""Tokens let in whom they name, until their time is over, and the database cannot tell them."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import Conflict, InvalidInput, NotFound, Unauthorized
from volant.volantd.database import Database
from volant.volantd.tokens import store as module
from volant.volantd.tokens.store import MIGRATIONS, TokenStore


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    database = Database(tmp_path / "db")
    database.bring_up_to_date({"tokens": MIGRATIONS})
    return TokenStore(database)


def test_a_token_is_found_by_its_text_alone(store: TokenStore) -> None:
    token, text = store.create("ci", "vm:web", 3600)
    assert token.scope == "vm:web"
    assert store.find(text) == token
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    for other in (
        "",
        "volant_",
        wrong,
        text + "x",
        text.upper(),
        text.replace("volant_", ""),
        "\udcff",
        text + "\n",
    ):
        assert store.find(other) is None


def test_nothing_that_lets_in_is_in_the_database(store: TokenStore, tmp_path: Path) -> None:
    _, text = store.create("ci", "admin", None)
    secret = text.split("_", 2)[2].encode()
    store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret not in (tmp_path / "db").read_bytes()
    assert b"ci" in (tmp_path / "db").read_bytes()


def test_its_time_is_over_at_some_time(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = store.create("ci", "read", 3600)
    _, endless = store.create("endless", "read", None)
    monkeypatch.setattr(module, "now", lambda: "2199-01-01T00:00:00.000Z")
    with pytest.raises(Unauthorized, match="token ci has expired"):
        store.find(text)
    assert store.find(endless) is not None


def test_after_a_rotation_both_are_taken_for_a_while(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, old = store.create("ci", "read", 86_400 * 365)
    after, new = store.rotate("ci", overlap_seconds=3600)
    assert old != new
    assert store.find(old) == store.find(new) == after
    assert after.previous_until is not None and before.expires_at is not None
    assert after.previous_until < before.expires_at
    monkeypatch.setattr(module, "now", lambda: after.previous_until)
    with pytest.raises(Unauthorized):
        store.find(old)
    assert store.find(new) == after


def test_a_rotation_never_lengthens_the_old_ones_time(store: TokenStore) -> None:
    before, _ = store.create("ci", "read", 60)
    after, _ = store.rotate("ci", overlap_seconds=3600)
    assert after.previous_until == before.expires_at


def test_one_that_is_deleted_is_taken_no_more(store: TokenStore) -> None:
    _, text = store.create("ci", "read", None)
    store.remove("ci")
    assert store.find(text) is None
    assert store.list_all() == []
    for call in (lambda: store.get("ci"), lambda: store.remove("ci"), lambda: store.rotate("ci", 1)):
        with pytest.raises(NotFound):
            call()


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("ci", "root"), ("ci", "vm:"), ("ci", "vm:A"), ("ci", "read\n"),
        ("", "read"), ("c i", "read"), ("ci\n", "read"),
    ],
)  # fmt: skip
def test_what_is_no_name_or_no_scope_is_refused(store: TokenStore, name: str, scope: str) -> None:
    with pytest.raises(InvalidInput):
        store.create(name, scope, None)


def test_a_name_is_taken_once(store: TokenStore) -> None:
    store.create("ci", "read", None)
    with pytest.raises(Conflict, match="taken"):
        store.create("ci", "admin", None)
