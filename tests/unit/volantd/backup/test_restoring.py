# SPDX-License-Identifier: Apache-2.0
"""A backup takes the place of a state whole or not at all, at whichever write the daemon is killed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.crash_points import Crash, CrashPoints
from volant.errors import Conflict, InvalidInput
from volant.volantd import database
from volant.volantd.backup.archive import FIRST, ArchiveWriter, BackupHead, BackupResult
from volant.volantd.backup.restoring import put_in_place, refuse_what_is_there, stage_backup
from volant.volantd.backup.taking import DATABASE, copy_database
from volant.volantd.database import Database
from volant.volantd.resources import RESOURCES

TAKEN_FROM = "/old/place"


@pytest.fixture
def memory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="volant-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def make_state(home: Path, word: str) -> None:
    """A state with a secret of this name, its key, and a snapshot's folder."""
    home.mkdir()
    with contextlib.closing(Database(home / DATABASE)) as made:
        made.bring_up_to_date({resource.name: resource.migrations for resource in RESOURCES})
        made.execute("INSERT INTO secrets VALUES (?, x'00', 1, '')", (word,))
    (home / "secrets.key").write_text(word)
    (home / "vms" / word).mkdir(parents=True)
    (home / "vms" / word / "console.log").write_text(word)


def make_archive(home: Path, tables: str = "") -> bytes:
    """A backup of such a state."""
    copy = home / "copy"
    copy_database(home / DATABASE, copy)
    if tables:
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            connection.executescript(tables)
    files = {"secrets.key": home / "secrets.key", DATABASE: copy}

    async def write() -> bytes:
        writer = ArchiveWriter()
        head = BackupHead(
            version="1", taken_at="then", state_dir=TAKEN_FROM, with_plugins=True, with_memory=False
        )
        content = writer.write_document(FIRST, head.model_dump_json().encode())
        for name, path in files.items():
            content += b"".join([chunk async for chunk in writer.write_file(name, path)])
        return content + writer.write_end(BackupResult())

    return asyncio.run(write())


def read_word(home: Path) -> str:
    """Whose state this is, in all of its parts."""
    with contextlib.closing(Database(home / DATABASE)) as opened:
        (row,) = opened.fetch_all("SELECT name FROM secrets")
    word = str(row["name"])
    assert (home / "secrets.key").read_text() == word
    assert (home / "vms" / "before").exists() == (word == "before")
    return word


def restore(home: Path, archive: bytes) -> None:
    with stage_backup(io.BytesIO(archive), home, RESOURCES, keeps=True) as staged:
        staged.publish()
    put_in_place(home)


def test_a_kill_at_every_write_leaves_one_state_or_the_other(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SPARE_BYTES", 1 << 16)
    make_state(memory / "after", "after")
    archive = make_archive(memory / "after")
    make_state(memory / "before", "before")
    points = CrashPoints(monkeypatch)
    found: list[str] = []
    fatal = 0
    while True:
        fatal += 1
        points.arm(0)
        home = memory / "home"
        shutil.copytree(memory / "before", home)
        points.arm(fatal)
        with contextlib.suppress(Crash):
            restore(home, archive)
        survived = not points.is_dead
        points.arm(fatal % 5 + 1)
        with contextlib.suppress(Crash):
            put_in_place(home)
        points.arm(0)
        put_in_place(home)
        found.append(read_word(home))
        assert not (home / "restore").exists()
        if found[-1] == "after":
            (kept,) = (home / "lost+found").iterdir()
            assert read_word(kept) == "before"
        else:
            assert not (home / "lost+found").exists()
        shutil.rmtree(home)
        if survived:
            break
    # Nothing until one instant, and everything from then on.
    assert found == sorted(found, reverse=True) and len(set(found)) == 2


@pytest.mark.parametrize(
    "tables",
    [
        "CREATE TRIGGER t AFTER INSERT ON vms BEGIN DELETE FROM vms; END;",
        "CREATE TABLE other (x);",
        "DROP TABLE secrets; CREATE VIEW secrets AS SELECT 1;",
        "DROP INDEX events_by_vm;",
    ],
)
def test_a_database_with_tables_of_others_is_refused(tmp_path: Path, tables: str) -> None:
    make_state(tmp_path / "after", "after")
    archive = make_archive(tmp_path / "after", tables)
    make_state(tmp_path / "before", "before")
    with pytest.raises(InvalidInput, match="its database is not sound"):
        restore(tmp_path / "before", archive)
    put_in_place(tmp_path / "before")
    assert read_word(tmp_path / "before") == "before"


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    make_state(tmp_path / "after", "after")
    archive = make_archive(tmp_path / "after", "PRAGMA user_version=999;")
    with pytest.raises(Conflict, match="a newer volant wrote it"):
        restore(tmp_path / "before", archive)


def test_what_is_replaced_is_asked_for() -> None:
    refuse_what_is_there({"VM(s)": 0}, [], replaces=False)
    with pytest.raises(Conflict, match="this daemon has 2 VM"):
        refuse_what_is_there({"VM(s)": 2, "secret(s)": 0}, [], replaces=False)
    with pytest.raises(Conflict, match="VMs run"):
        refuse_what_is_there({"VM(s)": 2}, ["a"], replaces=True)


def test_an_empty_state_that_was_replaced_is_not_kept(tmp_path: Path) -> None:
    make_state(tmp_path / "after", "after")
    make_state(tmp_path / "before", "before")
    archive = make_archive(tmp_path / "after")
    with stage_backup(io.BytesIO(archive), tmp_path / "before", RESOURCES, keeps=False) as staged:
        assert json.loads((staged.folder / "plan.json").read_bytes())["arriving"] == [DATABASE, "secrets.key"]
        staged.publish()
    put_in_place(tmp_path / "before")
    assert read_word(tmp_path / "before") == "after"
    assert not (tmp_path / "before" / "lost+found").exists()
