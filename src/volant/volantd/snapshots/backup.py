# SPDX-License-Identifier: Apache-2.0
"""Snapshots in a backup: their disks, and their memory only where that is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from volant.volantd.backup.kept import Keeping, Restored
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.backup import rebase
from volant.volantd.vms.disks import list_chain
from volant.volantd.vms.fleet import Fleet

DESCRIPTION = "snapshot.json"


async def keep(fleet: Fleet, keeping: Keeping) -> AsyncIterator[tuple[str, Path]]:
    """Last the layers, of snapshots and VMs alike."""
    settings = fleet.domain.settings
    store = SnapshotStore(settings.state_dir, settings.vms_dir)
    found = []
    for snapshot in store.list_all():
        if not snapshot.is_hidden:
            try:
                found += _link(store, snapshot, keeping)
            except FileNotFoundError:
                continue  # deleted meanwhile
    for name in found:
        yield name, keeping.folder / name
    for path in sorted((keeping.folder / "layers").glob("*")):
        yield f"layers/{path.name}", path


def _link(store: SnapshotStore, snapshot: Snapshot, keeping: Keeping) -> list[str]:
    """Second names of its files, and of the layers that it stands on."""
    folder = f"snapshots/{snapshot.id}"
    names = [f"{folder}/{DESCRIPTION}"]
    keeping.copy(store.find_record(snapshot.id), names[0])
    if snapshot.wake is not None and keeping.with_memory:
        for path in (snapshot.wake.image.state, snapshot.wake.image.memory):
            if path.exists():
                names.append(f"{folder}/{path.name}")
                keeping.link(path, names[-1])
    for layer in list_chain(snapshot.layer) if snapshot.layer is not None else ():
        if layer.parent == store.layers:
            keeping.link(layer, f"layers/{layer.name}")
    return names


def settle(restored: Restored) -> None:
    layers, folder = restored.folder / "layers", restored.folder / "snapshots"
    for layer in layers.iterdir() if layers.is_dir() else ():
        rebase(restored, layer)
    for place in folder.iterdir() if folder.is_dir() else ():
        content = restored.map_paths(json.loads((place / DESCRIPTION).read_bytes()))
        if not restored.with_memory:
            content["wake"] = None
        snapshot = Snapshot.model_validate(content)
        if snapshot.layer is None and snapshot.wake is None:
            restored.notes.append(f"snapshot {snapshot.name} was of memory alone, and is not in the backup")
            shutil.rmtree(place)
            continue
        (place / DESCRIPTION).write_text(snapshot.model_dump_json())
