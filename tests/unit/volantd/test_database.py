# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from volant.errors import Conflict
from volant.volantd.database import MIGRATIONS, Database


def test_a_transaction_is_all_or_nothing_and_nests(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    insert = "INSERT INTO events (time, kind, vm, data) VALUES ('', ?, '', '')"
    with pytest.raises(RuntimeError), database.transaction():
        database.execute(insert, ("lost",))
        raise RuntimeError
    with database.transaction(), database.transaction():
        database.execute(insert, ("kept",))
    assert [row["kind"] for row in database.fetch_all("SELECT kind FROM events")] == ["kept"]


def test_the_file_is_brought_up_to_date_once_and_never_down(tmp_path: Path) -> None:
    path = tmp_path / "db"
    Database(path).close()
    Database(path).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(Conflict, match="newer volant"):
        Database(path)
