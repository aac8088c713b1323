# SPDX-License-Identifier: Apache-2.0
"""The daemon's memory: one SQLite file, one writer, numbered migrations.

Everything runs on the event loop's thread: a statement takes microseconds, and a transaction that never awaits
cannot interleave with another. WAL with synchronous=FULL keeps each commit across a kill and a power cut. The file and
its log hold spare pages, so that a full disk keeps nobody from stopping and deleting VMs.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from volant.errors import Conflict, StorageFull, VolantError
from volant.volantd.reserve import Reserve

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
    """
    ALTER TABLE vms RENAME COLUMN request TO definition;
    ALTER TABLE vms RENAME COLUMN machine TO spec;
    ALTER TABLE vms ADD COLUMN hypervisor TEXT NOT NULL DEFAULT 'qemu';
    CREATE TABLE unreadable_rows (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, content TEXT NOT NULL, problem TEXT NOT NULL,
        time TEXT NOT NULL
    ) STRICT;
    """,
    # Drivers name their own sockets; all three were in one folder.
    """
    UPDATE vms SET spec = json_remove(
        json_set(spec, '$.socket_folder', rtrim(json_extract(spec, '$.qmp_socket'), 'qmp.sock')),
        '$.control_socket', '$.console_socket', '$.qmp_socket'
    ) WHERE CASE WHEN json_valid(spec) THEN json_extract(spec, '$.qmp_socket') IS NOT NULL ELSE FALSE END;
    """,
    # "always" meant no more than: after a reboot of the host.
    """
    ALTER TABLE vms ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
    UPDATE vms SET definition = json_set(definition, '$.restart', 'on-failure')
    WHERE CASE WHEN json_valid(definition) THEN json_extract(definition, '$.restart') = 'always' ELSE FALSE END;
    """,
    "CREATE INDEX events_by_vm ON events (vm, id);",
    "ALTER TABLE vms ADD COLUMN pending TEXT NOT NULL DEFAULT '[]';",
    # From here on each package of resources counts the versions of its own tables.
    "CREATE TABLE package_schemas (package TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;",
    "ALTER TABLE vms ADD COLUMN crash TEXT;",
)


SPARE_BYTES = 2 << 20
NEWER_RESOLUTION = "start the newer volantd, or set VOLANT_HOME to another folder"


class Database:
    """A connection with the schema brought up to date."""

    def __init__(self, path: Path, reserve: Reserve | None = None) -> None:
        """`reserve` is given up when the host's disk is full."""
        self._depth = 0
        self._reserve = reserve
        try:
            try:
                self._open(path)
            except sqlite3.OperationalError:
                # Its log cannot be made on a full disk either.
                if reserve is None or not reserve.give_up():
                    raise
                self._open(path)
        except (OSError, sqlite3.Error) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            raise VolantError(
                f"cannot open {path}: {cause}",
                resolution="restore it from a backup, or move it away and run volantd import-vms",
            ) from error
        self.keep_spare()

    def _open(self, path: Path) -> None:
        # SQLite would make it readable for all, as the umask has it; its WAL gets the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=5000",
            # KiB: rows are read once for each change of theirs, and what was read stays in the system's memory.
            "cache_size=-1024",
            # The log begins anew long before it outgrows what `_allocate` gives it.
            f"wal_autocheckpoint={SPARE_BYTES // 4096 // 4}",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        self._migrate(path)
        with suppress(sqlite3.OperationalError):
            self._allocate()

    def _allocate(self) -> None:
        """Grow the file and its log by pages that are free: changes fit in there, whatever else fills the disk."""
        self._connection.execute("DROP TABLE IF EXISTS spare")  # of a daemon that was killed just here
        self._connection.execute("CREATE TABLE spare (pages BLOB)")
        try:
            self._connection.execute("INSERT INTO spare VALUES (zeroblob(?))", (SPARE_BYTES,))
        finally:
            self._connection.execute("DROP TABLE spare")
        self._connection.execute("PRAGMA wal_checkpoint(RESTART)")

    def keep_spare(self) -> None:
        """From time to time: have spare pages, and the reserve for the next start, wherever there is room."""
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        if free * 4096 < SPARE_BYTES // 2:
            with suppress(sqlite3.OperationalError):
                self._allocate()
        if self._reserve is not None:
            self._reserve.keep()

    def _migrate(self, path: Path) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise Conflict(
                f"cannot open {path}: a newer volant wrote it (schema {version}, known are {len(MIGRATIONS)})",
                resolution=NEWER_RESOLUTION,
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            self._run_migration(statements, f"PRAGMA user_version={number}")

    def _run_migration(self, statements: str, count: str) -> None:
        # executescript commits on its own, so the transaction is part of the script.
        self._connection.executescript(f"BEGIN IMMEDIATE; {statements}; {count}; COMMIT;")

    def bring_up_to_date(self, packages: Mapping[str, Sequence[str]]) -> None:
        """Run what each package's tables lack, by its name (a plain word). Conflict where a newer volant was here."""
        versions = {row["package"]: row["version"] for row in self.fetch_all("SELECT * FROM package_schemas")}
        for package, version in versions.items():
            known = len(packages.get(package, ()))
            if version > known:
                raise Conflict(
                    f"cannot open the database: a newer volant wrote its {package} (schema {version},"
                    f" known are {known})",
                    resolution=NEWER_RESOLUTION,
                )
        for package, migrations in packages.items():
            version = versions.get(package, 0)
            for number, statements in enumerate(migrations[version:], start=version + 1):
                row = f"('{package}', {number})"
                self._run_migration(statements, f"INSERT OR REPLACE INTO package_schemas VALUES {row}")  # noqa: S608  # ours

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
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0

    def execute(self, statement: str, parameters: tuple[Any, ...] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """One statement, committed at once outside `transaction`. A full disk is told as StorageFull."""
        try:
            try:
                return self._connection.execute(statement, parameters)
            except sqlite3.OperationalError as error:
                if not self._make_room(error):
                    raise
                return self._connection.execute(statement, parameters)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StorageFull(
                    "cannot write volantd's database: the host's disk is full",
                    resolution="free some space in the state folder",
                ) from error
            raise VolantError(f"cannot use volantd's database: {error}") from error

    def execute_soon(
        self, statement: str, parameters: tuple[Any, ...] | dict[str, Any] = ()
    ) -> sqlite3.Cursor:
        """`execute` that does not wait for the disk: a kill takes nothing of it back, and a power cut only where
        nothing was executed since."""
        if self._depth:
            return self.execute(statement, parameters)
        self._connection.execute("PRAGMA synchronous=NORMAL")
        try:
            return self.execute(statement, parameters)
        finally:
            self._connection.execute("PRAGMA synchronous=FULL")

    def _make_room(self, error: sqlite3.OperationalError) -> bool:
        """Whether the statement can be tried again: the disk was full, and what it belongs to is still open."""
        is_full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        if not is_full or self._reserve is None or not self._reserve.give_up():
            return False
        return not self._depth or self._connection.in_transaction

    def fetch_all(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        return self.execute(statement, parameters).fetchall()

    def fetch_one(self, statement: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.execute(statement, parameters).fetchone()
        return row

    def close(self) -> None:
        self._connection.close()
