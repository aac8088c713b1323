# SPDX-License-Identifier: Apache-2.0
"""A snapshot as a tar: its document, its disk's differences from the plugin's in one layer, and if asked its memory.

Digests come first, so that whoever reads the archive knows what to expect before it takes anything in. Nothing is
compressed here: pipe it through zstd, and the empty parts of a memory cost nothing.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from volant.errors import Conflict
from volant.tar_entries import stream_archive
from volant.volantd.hypervisors.base import Nic, SharedNic, StreamNic, TapNic, UserNic, VmSpec
from volant.volantd.plugins.store import InstalledPlugin, StoredPlugin
from volant.volantd.snapshots.document import (
    CARRIED,
    DISK,
    DOCUMENT,
    PAGES,
    STATE,
    ArchivedFile,
    ArchivedMemory,
    ArchivedPlugin,
    FileName,
    SnapshotDocument,
)
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.disk_layers import held_layer
from volant.volantd.vms.disks import run_qemu_img
from volant.volantd.vms.record import WakeSource

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Export:
    """Open files, which stay readable though the snapshot is deleted meanwhile. `chunks` closes them at its end."""

    document: SnapshotDocument
    files: list[tuple[FileName, BinaryIO]]

    def chunks(self) -> Iterator[bytes]:
        sizes = {file.name: file.size for file in self.document.files}
        files = [(name, sizes[name], stream) for name, stream in self.files]
        return stream_archive(DOCUMENT, self.document.model_dump_json().encode(), files)


def export_snapshot(
    snapshot: Snapshot,
    installed: InstalledPlugin,
    plugin: StoredPlugin,
    store: SnapshotStore,
    *,
    with_memory: bool,
) -> Export:
    """Blocking. Raises Conflict where memory is asked for and there is none."""
    if with_memory and snapshot.wake is None:
        raise Conflict(f"cannot export snapshot {snapshot.name} with its memory: it is of a disk alone")
    if with_memory and snapshot.wake is not None and snapshot.wake.hypervisor != "qemu":
        raise Conflict(
            f"cannot export snapshot {snapshot.name} with its memory: it is of {snapshot.wake.hypervisor}",
            resolution="omit --with-memory: its disk alone works on any host",
        )
    opened: list[tuple[FileName, BinaryIO]] = []
    with ExitStack() as stack:
        if snapshot.layer is not None:
            opened.append((DISK, stack.enter_context(_open_disk(snapshot.layer, plugin, store))))
        if with_memory and snapshot.wake is not None:
            image = snapshot.wake.image
            opened.append((STATE, stack.enter_context(image.state.open("rb"))))
            if image.has_pages:
                opened.append((PAGES, stack.enter_context(image.memory.open("rb"))))
        files = [_measure(name, stream) for name, stream in opened]
        document = make_document(snapshot, installed, files, snapshot.wake if with_memory else None)
        stack.pop_all()
    return Export(document, opened)


def _open_disk(layer: Path, plugin: StoredPlugin, store: SnapshotStore) -> BinaryIO:
    """What differs from the plugin's disk, in one QCOW2 that names no other file; its name is gone already."""
    with store.draft() as (_, folder), held_layer(layer):
        disk = folder / DISK
        # `convert -B` would take the topmost layer alone (QEMU 7.2) for what differs from the plugin's disk.
        shutil.copyfile(layer, disk)
        arguments = ("-b", str(plugin.payload), "-F", plugin.format)
        run_qemu_img(disk, "rebase", "-q", "-f", "qcow2", *arguments, str(disk))
        run_qemu_img(disk, "rebase", "-q", "-u", "-f", "qcow2", "-b", "", str(disk))
        return disk.open("rb")


def _measure(name: FileName, stream: BinaryIO) -> ArchivedFile:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    stream.seek(0)
    return ArchivedFile(name=name, size=size, sha256=digest.hexdigest())


def make_document(
    snapshot: Snapshot, installed: InstalledPlugin, files: list[ArchivedFile], wake: WakeSource | None
) -> SnapshotDocument:
    return SnapshotDocument(
        **snapshot.definition.model_dump(include=set(CARRIED)),
        name=snapshot.name,
        vm_name=snapshot.vm_name,
        plugin=ArchivedPlugin(name=installed.name, version=installed.version, checksum=installed.checksum),
        pause_ms=snapshot.pause_ms,
        created_at=snapshot.created_at,
        memory=None if wake is None else describe_memory(wake),
        files=files,
    )


def describe_memory(wake: WakeSource) -> ArchivedMemory:
    spec = wake.spec
    return ArchivedMemory(
        architecture=spec.architecture,
        machine=spec.machine,
        accelerator=spec.accelerator,
        kernel=name_kernel(spec),
        tsc_khz=spec.tsc_khz,
        nic=_name_nic(spec.nics),
        has_modules=any(disk.read_only for disk in spec.disks),
        has_pages=wake.image.has_pages,
        control_key=wake.control_key,
        host_key=wake.host_key,
        hypervisor_version=wake.hypervisor_version,
        traits=wake.traits,
    )


def name_kernel(spec: VmSpec) -> str:
    """By its file, whose name in the kernels' cache tells its version and its build."""
    return "" if spec.kernel is None else spec.kernel.name


def _name_nic(nics: tuple[Nic, ...]) -> str:
    match nics:
        case (UserNic(),):
            return "user"
        case (StreamNic(),):
            return "stream"
        case (TapNic(),):
            return "tap"
        case (SharedNic(),):
            return "shared"
    return "none"
