# SPDX-License-Identifier: Apache-2.0
"""Volumes in a backup of everything: each of one instant, which is another one than that of the VM's own disk."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from volant.volantd.backup.kept import Keeping, Restored
from volant.volantd.vms.fleet import Fleet
from volant.volantd.volumes.acts import DISK, HEAD, copy_volume, unpack_disk
from volant.volantd.volumes.store import Volume


async def keep(fleet: Fleet, keeping: Keeping) -> AsyncIterator[tuple[str, Path]]:
    store = fleet.domain.volumes
    for volume in store.list_all():
        folder = f"volumes/{volume.id}"
        description = keeping.copy(store.find_record(volume.id), f"{folder}/{HEAD}")
        disk = description.with_name(DISK)
        if note := await copy_volume(fleet, volume, disk):
            keeping.notes.append(note)
        yield f"{folder}/{DISK}", disk
        yield f"{folder}/{HEAD}", description


def settle(restored: Restored) -> None:
    """Disks as VMs use them. Of one without a description, which comes last, nothing is left."""
    folders = restored.folder / "volumes"
    for folder in folders.iterdir() if folders.is_dir() else ():
        if (folder / HEAD).exists() and (folder / DISK).exists():
            unpack_disk(folder, Volume.model_validate_json((folder / HEAD).read_bytes()))
        else:
            shutil.rmtree(folder)
