# SPDX-License-Identifier: Apache-2.0
"""Plugins in a backup: their payloads, unless it is taken without them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from volant.volantd.backup.kept import Keeping, Restored
from volant.volantd.vms.fleet import Fleet

PAYLOADS = "plugins/sha256"


async def keep(fleet: Fleet, keeping: Keeping) -> AsyncIterator[tuple[str, Path]]:
    plugins = fleet.domain.plugins
    names = {}
    for plugin in plugins.list_all() if keeping.with_plugins else ():
        payload = plugins.find_payload(plugin.checksum)
        with suppress(FileNotFoundError):
            name = f"{PAYLOADS}/{payload.name}"
            names[name] = keeping.link(payload, name)
    for name, path in names.items():
        yield name, path


def settle(restored: Restored) -> None:
    """Payloads without a row were removed while the backup was taken; a row without a payload waits for it."""
    rows = restored.database.fetch_all("SELECT name, version, checksum FROM plugins ORDER BY name, version")
    payloads = restored.folder / PAYLOADS
    there = {path.name: path for path in payloads.iterdir()} if payloads.is_dir() else {}
    named = {row["checksum"].removeprefix("sha256:") for row in rows}
    for name, path in there.items():
        if name in named:
            path.chmod(0o400)
        else:
            path.unlink()
    missing = [f"{row['name']}:{row['version']}" for row in rows if row["checksum"][7:] not in there]
    if missing:
        restored.notes.append(
            f"install these plugins again, their VMs cannot start without: {', '.join(missing)}"
        )
