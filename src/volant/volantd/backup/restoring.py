# SPDX-License-Identifier: Apache-2.0
"""A backup takes the place of a state: all of it or nothing, whenever the daemon is killed.

`stage_backup` unpacks it beside, checks it and makes it right for this host; renaming the folder to `ready` is the
instant from which it counts. The daemon begins anew then, and every start begins with `put_in_place`, which only
renames, and can be cut off anywhere and begun again. What was there before is kept in `lost+found`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from volant.errors import Conflict, InvalidInput, VolantError
from volant.volantd.backup.archive import FIRST, BackupHead, unpack
from volant.volantd.backup.kept import Restored
from volant.volantd.backup.taking import DATABASE
from volant.volantd.database import Database
from volant.volantd.lost_and_found import LostAndFound
from volant.volantd.resource import Resource
from volant.whole_file import flush, write_whole_file

PLAN = "plan.json"
LOGS = (f"{DATABASE}-wal", f"{DATABASE}-shm")


def find_folder(state_dir: Path) -> Path:
    return state_dir / "restore"


@dataclass(frozen=True, slots=True)
class Staged:
    """What will take the state's place once `publish` is called; `notes` are for people."""

    folder: Path
    head: BackupHead
    counts: dict[str, int]
    notes: list[str]

    def publish(self) -> None:
        """From now on the backup is the state, which the daemon's next start makes true."""
        os.rename(self.folder, self.folder.with_name("ready"))
        flush(self.folder.parent)


@contextmanager
def stage_backup(
    stream: IO[bytes], state_dir: Path, resources: Sequence[Resource], *, keeps: bool
) -> Iterator[Staged]:
    """Unpack and check; blocking. Gone when it is left, unless it was published. `keeps`: what it replaces is not
    thrown away.
    """
    places = [DATABASE, *(place for resource in resources for place in resource.places)]
    folder = find_folder(state_dir) / f"incoming-{secrets.token_hex(8)}"
    state = folder / "state"
    state.mkdir(parents=True, mode=0o700)
    try:
        head = unpack(stream, state, places, FIRST, BackupHead)
        counts, notes = _settle(state, state_dir, head, resources)
        arriving = [place for place in places if (state / place).exists()]
        stays = () if head.with_plugins else ("plugins",)
        leaving = [*(place for place in places if place not in (*arriving, *stays)), *LOGS]
        plan = {"arriving": arriving, "leaving": leaving, "keeps": keeps}
        write_whole_file(folder / PLAN, json.dumps(plan).encode(), mode=0o600)
        for path in (*(path for path in state.rglob("*") if path.is_dir()), state, folder):
            flush(path)
        yield Staged(folder, head, counts, notes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settle(
    state: Path, state_dir: Path, head: BackupHead, resources: Sequence[Resource]
) -> tuple[dict[str, int], list[str]]:
    if not (state / DATABASE).is_file():
        raise InvalidInput("cannot restore the backup: it holds no database")
    migrations = {resource.name: resource.migrations for resource in resources}
    with closing(Database(state / DATABASE)) as database:
        database.bring_up_to_date(migrations)
        check_schema(database, state.parent, migrations)
        restored = Restored(
            database, state, state_dir, head.state_dir, head.taken_at, with_plugins=head.with_plugins,
            with_memory=head.with_memory,
        )  # fmt: skip
        with database.transaction():
            for resource in resources:
                if resource.settle is not None:
                    resource.settle(restored)
        counts = {
            table: int(database.fetch_all(f"SELECT count(*) AS count FROM {table}")[0]["count"])  # noqa: S608  # ours
            for table in ("plugins", "secrets", "vms")
        }
    for log in LOGS:
        (state / log).unlink(missing_ok=True)
    return counts, restored.notes


def check_schema(database: Database, folder: Path, migrations: dict[str, tuple[str, ...]]) -> None:
    """InvalidInput where the file is not sound, or has tables, views or triggers that are not ours. Those that are ours
    are found out by a fresh database in `folder`."""
    path = folder / "model.db"
    with closing(Database(path)) as model:
        model.bring_up_to_date(migrations)
        expected, found = (_list_objects(one) for one in (model, database))
    problems = [str(row[0]) for row in database.fetch_all("PRAGMA integrity_check(10)") if row[0] != "ok"]
    if expected != found or problems:
        names = sorted({name for name, _ in expected ^ found})
        raise InvalidInput(
            "cannot restore the backup: its database is not sound", details=[*problems, *names]
        )


def _list_objects(database: Database) -> set[tuple[str, str]]:
    rows = database.fetch_all("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {(row["name"], row["sql"]) for row in rows}


def put_in_place(state_dir: Path) -> None:
    """At the daemon's start, before anything is opened: finish a restore that was published, remove others."""
    folder = find_folder(state_dir)
    ready, aside = folder / "ready", folder / "replaced"
    if ready.is_dir() and (ready / PLAN).is_file():
        plan = json.loads((ready / PLAN).read_bytes())
        aside.mkdir(exist_ok=True, mode=0o700)
        try:
            for name in plan["arriving"]:
                if (ready / "state" / name).exists():  # else it is there already
                    _move(state_dir / name, aside / name)
                    os.rename(ready / "state" / name, state_dir / name)
            for name in plan["leaving"]:
                _move(state_dir / name, aside / name)
            flush(state_dir)
        except OSError as error:
            raise VolantError(
                f"cannot finish restoring {state_dir}: {error.strerror}", details=[str(error.filename)]
            ) from error
        if plan["keeps"] and any(aside.iterdir()):
            LostAndFound(state_dir).keep(aside, "state")
        (ready / PLAN).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _move(path: Path, aside: Path) -> None:
    if path.exists() and not aside.exists():
        os.rename(path, aside)


def refuse_what_is_there(counts: dict[str, int], running: Sequence[str], *, replaces: bool) -> None:
    """Conflict where a backup must not take the place of this state."""
    there = [f"{count} {noun}" for noun, count in counts.items() if count]
    if there and not replaces:
        raise Conflict(
            f"cannot restore the backup: this daemon has {', '.join(there)}",
            resolution="use --replace to replace them; what is there now is kept in lost+found",
        )
    if running:
        raise Conflict(
            "cannot restore the backup: VMs run that it would replace",
            details=[f"VM {name}" for name in running],
            resolution=f"stop them first: volar vms stop {' '.join(running)}",
        )
