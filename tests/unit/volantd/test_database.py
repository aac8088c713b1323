# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from volant.errors import Conflict, VolantError
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


def test_what_is_no_database_is_told_with_its_path(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database" * 1000)
    folder = tmp_path / "folder.db"
    folder.mkdir()
    for path in (garbage, folder, tmp_path / "missing" / "db"):
        with pytest.raises(VolantError, match=f"cannot open {path}: "):
            Database(path)


def test_the_file_and_its_log_are_this_users_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        database = Database(tmp_path / "db")
    finally:
        os.umask(before)
    database.execute("INSERT INTO events (time, kind, vm, data) VALUES ('', '', '', '')")
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("db", "db-wal", "db-shm"), 0o600
    )
    database.close()
