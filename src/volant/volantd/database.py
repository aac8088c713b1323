# SPDX-License-Identifier: Apache-2.0
"""The daemon's memory: one SQLite file, one writer, numbered migrations.

Everything runs on the event loop's thread: a statement takes microseconds, and a transaction that never awaits
cannot interleave with another. WAL with synchronous=FULL keeps each commit across a kill and a power cut.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from volant.errors import Conflict, StorageFull, VolantError

# One entry a schema version; never edited once released, only added to.
MIGRATIONS = (
    """
    CREATE TABLE plugins (
        name TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, boot TEXT NOT NULL, format TEXT NOT NULL,
        checksum TEXT NOT NULL, size_bytes INTEGER NOT NULL, virtual_size_bytes INTEGER NOT NULL,
        architecture TEXT NOT NULL, enabled INTEGER NOT NULL, installed_at TEXT NOT NULL, manifest TEXT NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT;
    CREATE TABLE vms (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
        wanted INTEGER NOT NULL DEFAULT 0, plugin_name TEXT NOT NULL, plugin_version TEXT NOT NULL,
        request TEXT NOT NULL, address TEXT UNIQUE, mac TEXT NOT NULL, ports TEXT NOT NULL DEFAULT '[]',
        control_key TEXT NOT NULL, host_key TEXT NOT NULL, process TEXT, machine TEXT, agent TEXT, guest TEXT,
        last_lines TEXT NOT NULL DEFAULT '[]', exit_code INTEGER, created_at TEXT NOT NULL, started_at TEXT,
        deleting INTEGER NOT NULL DEFAULT 0,
        FOREIGN KEY (plugin_name, plugin_version) REFERENCES plugins (name, version) ON DELETE RESTRICT
    ) STRICT;
    CREATE TABLE secrets (
        name TEXT PRIMARY KEY, sealed BLOB NOT NULL, size_bytes INTEGER NOT NULL, updated_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, kind TEXT NOT NULL, vm TEXT NOT NULL,
        data TEXT NOT NULL
    ) STRICT;
    """,
)


class Database:
    """A connection with the schema brought up to date."""

    def __init__(self, path: Path) -> None:
        self._depth = 0
        try:
            # SQLite would make it readable for all, as the umask has it; its WAL gets the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate(path)
        except (OSError, sqlite3.Error) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            raise VolantError(
                f"cannot open {path}: {cause}",
                resolution="restore it from a backup, or move it away to begin with an empty one",
            ) from error

    def _migrate(self, path: Path) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise Conflict(
                f"cannot open {path}: a newer volant wrote it (schema {version}, known are {len(MIGRATIONS)})",
                resolution="start the newer volantd, or give another VOLANT_STATE_DIR",
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            # executescript commits on its own, so the transaction is part of the script.
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {statements}; PRAGMA user_version={number}; COMMIT;"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Must not await inside; nested ones belong to the outermost."""
        if self._depth:
            yield
            return
        self.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        else:
            self.execute("COMMIT")
        finally:
            self._depth = 0

    def execute(self, statement: str, parameters: tuple[Any, ...] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """One statement, committed at once outside `transaction`. A full disk is told as StorageFull."""
        try:
            return self._connection.execute(statement, parameters)
        except sqlite3.OperationalError as error:
            if "disk is full" in str(error):
                raise StorageFull(
                    "cannot write volantd's database: the host's disk is full",
                    resolution="free some space in the state folder",
                ) from error
            raise VolantError(f"cannot use volantd's database: {error}") from error

    def fetch_all(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        return self.execute(statement, parameters).fetchall()

    def fetch_one(self, statement: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.execute(statement, parameters).fetchone()
        return row

    def close(self) -> None:
        self._connection.close()
