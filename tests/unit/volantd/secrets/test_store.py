# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from volant.errors import Conflict, InvalidInput, NotFound, VolantError
from volant.volantd.database import Database
from volant.volantd.secrets.store import SecretStore
from volant.volantd.usage import Usage
from volant.volantd.vms.record import AttachedSecret


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    usage = Usage()
    usage.ask("VM", "vms", lambda _, name: ["web"] if name == "used" else [])
    return SecretStore(Database(tmp_path / "db"), tmp_path / "key", usage)


def attach(*specs: tuple[str, int | None]) -> list[AttachedSecret]:
    return [AttachedSecret(name=name, port=port) for name, port in specs]


def test_one_secret_is_answered_with_its_very_bytes(store: SecretStore) -> None:
    value = bytes(range(256))
    store.set("api-key", value)
    assert store.answer(attach(("api-key", None)), 9000) == value


def test_several_are_lines_that_a_shell_sources_back(store: SecretStore) -> None:
    store.set("api-key", b"it's $HOME `id`\n")
    store.set("b.c", b"two\nlines")
    answer = store.answer(attach(("api-key", None), ("b.c", None)), 9000)
    assert answer is not None
    script = answer + b'printf \'%s|%s\' "$api_key" "$b_c"'
    assert (
        subprocess.run(["sh"], input=script, capture_output=True, check=True).stdout
        == b"it's $HOME `id`|two\nlines"
    )


def test_a_port_of_its_own_answers_there_only_and_the_rest_refuse(store: SecretStore) -> None:
    store.set("a", b"1")
    attached = attach(("a", 9001))
    assert store.answer(attached, 9001) == b"1"
    assert store.answer(attached, 9000) is None
    assert store.answer([], 9000) is None


def test_at_rest_values_are_sealed_under_their_name(store: SecretStore, tmp_path: Path) -> None:
    store.set("a", b"plain text value")
    store.set("b", b"other")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    database = Database(tmp_path / "db")
    assert b"plain text value" not in database.fetch_all("SELECT sealed FROM secrets")[0]["sealed"]
    database.execute(
        "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'a') WHERE name = 'b'"
    )
    with pytest.raises(VolantError, match="cannot open secret b"):
        store.reveal("b")


def test_what_is_refused(store: SecretStore) -> None:
    with pytest.raises(InvalidInput):
        store.set("9 lives", b"")
    with pytest.raises(InvalidInput):
        store.set("big", bytes(1024 * 1024 + 1))
    with pytest.raises(NotFound):
        store.remove("none")
    store.set("used", b"")
    with pytest.raises(Conflict, match="1 VM"):
        store.remove("used")
