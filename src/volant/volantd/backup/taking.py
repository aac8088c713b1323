# SPDX-License-Identifier: Apache-2.0
"""A backup while the daemon serves and VMs run, in `stream_backup`.

The database comes last: rows whose files are not in the archive, of what was made meanwhile, are left out when it is
restored. What was deleted meanwhile has no row, and its files are left out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, closing
from pathlib import Path

from volant import __version__
from volant.errors import VolantError
from volant.volantd.backup.archive import FIRST, ArchiveWriter, BackupHead, BackupResult
from volant.volantd.backup.kept import Keeping
from volant.volantd.clock import now
from volant.volantd.resource import Resource
from volant.volantd.vms.fleet import Fleet

logger = logging.getLogger(__name__)

DATABASE = "volant.db"


def find_folder(state_dir: Path) -> Path:
    return state_dir / "backups"


async def stream_backup(
    fleet: Fleet, resources: Sequence[Resource], *, with_plugins: bool, with_memory: bool
) -> AsyncIterator[bytes]:
    """The archive's bytes. An error ends it with a result that says so, since the reply has begun long before."""
    settings = fleet.domain.settings
    folder = find_folder(settings.state_dir) / secrets.token_hex(8)
    folder.mkdir(parents=True, mode=0o700)
    keeping = Keeping(folder, with_plugins=with_plugins, with_memory=with_memory)
    writer = ArchiveWriter()
    head = BackupHead(
        version=__version__, taken_at=now(), state_dir=str(settings.state_dir), with_plugins=with_plugins,
        with_memory=with_memory,
    )  # fmt: skip
    error = ""
    try:
        yield writer.write_document(FIRST, head.model_dump_json().encode())
        async with aclosing(_write_files(fleet, resources, keeping, writer)) as chunks:
            async for chunk in chunks:
                yield chunk
    except (VolantError, OSError) as problem:
        logger.warning("a backup was not finished: %s", problem)
        error = problem.what if isinstance(problem, VolantError) else str(problem)
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
    if not error:
        fleet.domain.events.add("backup", "", notes=keeping.notes)
    yield writer.write_end(BackupResult(error=error, notes=keeping.notes))


async def _write_files(
    fleet: Fleet, resources: Sequence[Resource], keeping: Keeping, writer: ArchiveWriter
) -> AsyncGenerator[bytes, None]:
    for resource in resources:
        if resource.keep is None:
            continue
        async for name, path in resource.keep(fleet, keeping):
            async for chunk in writer.write_file(name, path):
                yield chunk
            if keeping.folder in path.parents:
                path.unlink()
    copy = keeping.folder / DATABASE
    await asyncio.to_thread(copy_database, fleet.domain.settings.database, copy)
    async for chunk in writer.write_file(DATABASE, copy):
        yield chunk


def copy_database(source: Path, target: Path) -> None:
    """As it is at one instant, by SQLite's own online backup (https://www.sqlite.org/backup.html)."""
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as origin,
        closing(sqlite3.connect(target)) as copy,
    ):
        origin.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
