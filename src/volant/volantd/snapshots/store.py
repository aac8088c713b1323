# SPDX-License-Identifier: Apache-2.0
"""Snapshots on disk: one folder each, with `snapshot.json` (it holds the guest's keys) and the memory's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from volant.errors import Conflict, NotFound
from volant.volantd.folder_store import FolderStore
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.usage import Used
from volant.volantd.vms.disk_layers import sweep_layers
from volant.volantd.vms.request_keys import RequestKey


class SnapshotStore(FolderStore[Snapshot]):
    """Blocking, and quick but for `remove` and `sweep`."""

    def __init__(self, state_dir: Path, vms_dir: Path) -> None:
        super().__init__(state_dir / "snapshots", Snapshot, "snapshot")
        self.layers = state_dir / "layers"
        self._vms = vms_dir

    def list_all(self) -> list[Snapshot]:
        """Oldest first."""
        return self.read_all(lambda snapshot: (snapshot.created_at, snapshot.id))

    def publish(self, snapshot: Snapshot, hidden: Path) -> None:
        """Of many who ask for a name at once, one gets it; Conflict for the others."""
        self.put(snapshot.id, snapshot, hidden, lambda: self.check_free(snapshot.name))

    def get(self, name_or_id: str) -> Snapshot:
        snapshots = self.list_all()
        for snapshot in snapshots:
            if name_or_id in (snapshot.name, snapshot.id):
                return snapshot
        names = ", ".join(snapshot.name for snapshot in snapshots[:20])
        raise NotFound(
            f"cannot find snapshot {name_or_id}",
            details=[f"existing: {names}"] if names else [],
            resolution="see them all with: volar snapshots list",
        )

    def find_made(self, key: RequestKey) -> Snapshot | None:
        """What was made for a request that is asked again; InvalidInput where that was another one."""
        for snapshot in self.list_all():
            if key.is_same(snapshot.request_key):
                return snapshot
        return None

    def find_users(self, used: Used, name: str) -> list[str]:
        return [
            snapshot.name
            for snapshot in self.list_all()
            if (used == "plugin" and snapshot.plugin_reference == name)
            or (used == "secret" and name in {attached.name for attached in snapshot.definition.secrets})
        ]

    def check_free(self, name: str) -> None:
        if any(snapshot.name == name for snapshot in self.list_all()):
            raise Conflict(
                f"cannot take snapshot {name}: the name is taken",
                resolution=f"choose another name, or delete that one: volar snapshots delete {name}",
            )

    def measure(self, snapshot: Snapshot) -> int:
        """Bytes on disk of the memory's files and of the layer alone, without what lies below it."""
        paths = list(self.find_place(snapshot.id).iterdir())
        if snapshot.layer is not None and snapshot.layer.exists():
            paths.append(snapshot.layer)
        return sum(path.stat().st_blocks * 512 for path in paths)

    def remove(self, snapshot: Snapshot) -> None:
        """VMs that were made of it go on: their disks keep the layers that they stand on."""
        self.take_away(snapshot.id)
        self.sweep_layers()

    def sweep(self) -> None:
        """At the daemon's start: what was cut off."""
        super().sweep()
        self.sweep_layers()

    def sweep_layers(self) -> None:
        sweep_layers(self.layers, self._list_tops())

    def _list_tops(self) -> Iterator[Path]:
        """Read as they are asked for, which is after the layers have been listed."""
        yield from self._vms.glob("*/root.qcow2*") if self._vms.is_dir() else ()
        yield from (snapshot.layer for snapshot in self.list_all() if snapshot.layer is not None)
