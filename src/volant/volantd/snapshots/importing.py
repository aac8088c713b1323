# SPDX-License-Identifier: Apache-2.0
"""A tar that somebody hands over becomes a snapshot of this host, or one clear error and nothing.

Its names, sizes and digests are those of the document or the import ends. The disk reaches no other file
(`probe_disk`) and gets the plugin's below it here; the machine that a memory wakes in is put together of this host's
own files. Whatever wakes from it becomes another VM first, and gets no secret by a name of the archive's.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import UnsupportedAlgorithm
from pydantic import ValidationError

from volant.contract.disk_probe import probe_disk
from volant.contract.guest_config import MODULES_SERIAL
from volant.contract.tar_stream import Entry, TarStream
from volant.errors import Conflict, InvalidInput, StorageFull
from volant.volantd.boot.kernel import Kernel
from volant.volantd.hypervisors.base import (
    DiskDrive,
    MemoryImage,
    Nic,
    SharedNic,
    StreamNic,
    TapNic,
    UserNic,
    VmSpec,
)
from volant.volantd.plugins.store import PluginStore, StoredPlugin
from volant.volantd.snapshots.document import CARRIED, DISK, DOCUMENT, ArchivedMemory, SnapshotDocument
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.disk_layers import SUFFIX, hold_layer, release_layer
from volant.volantd.vms.disks import run_qemu_img
from volant.volantd.vms.guest_settings import ROOT_SERIAL
from volant.volantd.vms.kept_memory import sync_files
from volant.volantd.vms.keys import read_public_key
from volant.volantd.vms.record import VmDefinition, WakeSource

MOST_DOCUMENT_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
NOWHERE = Path("/nowhere")


class Import:
    """One archive. All of it blocks on its stream, which the event loop fills; what lies between asks the database."""

    def __init__(self, stream: BinaryIO) -> None:
        self._archive = TarStream(stream)
        self._entries = self._archive.entries()

    def begin(self, name: str) -> SnapshotDocument:
        """What it is to be; `name` "" keeps the archive's. InvalidInput for what makes no sense."""
        with _of_a_snapshot():
            document = read_document(self._archive, next(self._entries, None))
        return document.model_copy(update={"name": name}) if name else document

    def finish(
        self, document: SnapshotDocument, store: SnapshotStore, plugin: StoredPlugin, kernel: Kernel | None
    ) -> Snapshot:
        """Raises InvalidInput, Conflict or StorageFull, with nothing left."""
        with _of_a_snapshot(), store.draft() as (identity, hidden):
            receive_files(self._archive, self._entries, document, hidden, store)
            return _publish(document, identity, hidden, store, plugin, kernel)


@contextmanager
def _of_a_snapshot() -> Iterator[None]:
    """The reader of archives speaks of plugins."""
    try:
        yield
    except InvalidInput as error:
        what = error.what.replace("the plugin archive", "the snapshot's archive")
        raise InvalidInput(what, details=error.details, resolution=error.resolution) from error


def read_document(archive: TarStream, first: Entry | None) -> SnapshotDocument:
    if first is None or first.name != DOCUMENT:
        raise refuse(f"its first entry is not {DOCUMENT}", "make one with: volar snapshots export NAME FILE")
    if first.size > MOST_DOCUMENT_BYTES:
        raise refuse(f"its {DOCUMENT} has {first.size} bytes")
    try:
        return SnapshotDocument.model_validate_json(read_all(archive, first.size))
    except ValidationError as error:
        first_error = error.errors()[0]
        place = ".".join(str(part) for part in first_error["loc"])
        raise refuse(f"{DOCUMENT}: {place}: {first_error['msg']}") from error


def refuse(why: str, resolution: str = "") -> InvalidInput:
    return InvalidInput(f"cannot import the snapshot: {why}", resolution=resolution)


def read_all(archive: TarStream, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        content += archive.read(size - len(content))
    return bytes(content)


def find_plugin(document: SnapshotDocument, plugins: PluginStore) -> StoredPlugin:
    reference = f"{document.plugin.name}:{document.plugin.version}"
    installed = plugins.get(reference)
    if installed.checksum != document.plugin.checksum:
        raise Conflict(
            f"cannot import snapshot {document.name}: plugin {reference} has other content on this host",
            details=[f"installed:    {installed.checksum}", f"the snapshot: {document.plugin.checksum}"],
        )
    plugin = plugins.load(reference)
    if (plugin.kind == "rootfs") != any(file.name == DISK for file in document.files):
        raise refuse(f"plugin {reference} and the archive differ on whether there is a disk")
    return plugin


def receive_files(
    archive: TarStream,
    entries: Iterator[Entry],
    document: SnapshotDocument,
    folder: Path,
    store: SnapshotStore,
) -> None:
    """The files that the document names, in its order, each of its size and digest, and nothing else."""
    expected = list(document.files)
    room = os.statvfs(folder)
    if sum(file.size for file in expected) > room.f_bavail * room.f_frsize:
        raise StorageFull(
            f"cannot import snapshot {document.name}: it does not fit on the disk of {store.folder}",
            resolution="free some space",
        )
    for entry in entries:
        if not expected or (entry.name, entry.size) != (expected[0].name, expected[0].size):
            raise refuse(f"{entry.name} of {entry.size} bytes is not what {DOCUMENT} says comes here")
        file = expected.pop(0)
        if receive(archive, entry.size, folder / file.name) != file.sha256:
            raise refuse(f"the digest of {file.name} is wrong: it is damaged, or was changed")
    if expected:
        raise refuse(f"{expected[0].name} is missing")


def receive(archive: TarStream, size: int, target: Path) -> str:
    """Write a file, with holes where there are only zeros; its SHA-256. StorageFull where there is no room."""
    digest, left = hashlib.sha256(), size
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        while left:
            chunk = archive.read(min(left, CHUNK_BYTES))
            digest.update(chunk)
            if any(chunk):
                os.pwrite(descriptor, chunk, size - left)
            left -= len(chunk)
    except OSError as error:
        raise StorageFull(f"cannot import the snapshot: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _publish(
    document: SnapshotDocument,
    identity: str,
    hidden: Path,
    store: SnapshotStore,
    plugin: StoredPlugin,
    kernel: Kernel | None,
) -> Snapshot:
    wake = None
    if document.memory is not None:
        wake = make_wake_source(document, document.memory, store.find_place(identity), kernel)
    layer: Path | None = None
    try:
        if (hidden / DISK).exists():
            layer = take_disk(hidden / DISK, store.layers, plugin.payload, plugin.format)
        snapshot = Snapshot(
            id=identity, name=document.name, vm_id="", vm_name=document.vm_name, plugin_name=document.plugin.name,
            plugin_version=document.plugin.version, definition=make_definition(document), layer=layer, wake=wake,
            pause_ms=document.pause_ms, created_at=document.created_at,
        )  # fmt: skip
        sync_files(hidden)
        store.publish(snapshot, hidden)
    except BaseException:
        if layer is not None:
            layer.unlink(missing_ok=True)
        raise
    finally:
        if layer is not None:
            release_layer(layer)
    return snapshot


def take_disk(disk: Path, layers: Path, payload: Path, payload_format: str) -> Path:
    """Make the received disk a layer over the plugin's; it is held then."""
    with disk.open("rb") as stream:
        image = probe_disk(stream.fileno(), disk.stat().st_size)
    if image.format != "qcow2":
        raise refuse(f"{DISK} is no QCOW2")
    run_qemu_img(
        disk, "rebase", "-q", "-u", "-f", "qcow2", "-b", str(payload), "-F", payload_format, str(disk)
    )
    layers.mkdir(parents=True, exist_ok=True, mode=0o700)
    layer = layers / f"{secrets.token_hex(8)}{SUFFIX}"
    hold_layer(layer)
    disk.rename(layer)
    return layer


def make_definition(document: SnapshotDocument) -> VmDefinition:
    """What VMs of it will be. Secrets are this host's, and nobody here has attached any."""
    return VmDefinition.model_validate(document.model_dump(include=set(CARRIED)))


def make_wake_source(
    document: SnapshotDocument, memory: ArchivedMemory, place: Path, kernel: Kernel | None
) -> WakeSource:
    """The machine as this host would make it. Conflict where its kernel is not here."""
    try:
        for key in (memory.control_key, memory.host_key):
            read_public_key(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refuse(f"{DOCUMENT}: memory: a key of it is none") from error
    if kernel is None or kernel.image.name != memory.kernel:
        here = "none" if kernel is None else kernel.image.name
        raise Conflict(
            f"cannot import snapshot {document.name} with its memory: that needs kernel {memory.kernel}",
            details=[f"this host has {here}"],
            resolution="export it without memory, or install that kernel on this host",
        )
    disks = (
        []
        if all(file.name != DISK for file in document.files)
        else [DiskDrive(NOWHERE, "qcow2", ROOT_SERIAL)]
    )
    if memory.has_modules:
        if kernel.module_disk is None:
            raise Conflict(
                f"cannot import snapshot {document.name} with its memory: this host makes no module disk"
            )
        disks.append(DiskDrive(kernel.module_disk, "raw", MODULES_SERIAL, read_only=True))
    spec = VmSpec(
        id="", name=document.vm_name, architecture=memory.architecture, machine=memory.machine,
        accelerator=memory.accelerator, vcpu=document.resources.vcpu, memory_mb=document.resources.memory_mb,
        disks=tuple(disks), nics=_make_nics(memory.nic), socket_folder=NOWHERE, console_log=NOWHERE,
        hypervisor_log=NOWHERE, kernel=kernel.image, initrd=NOWHERE, tsc_khz=memory.tsc_khz,
    )  # fmt: skip
    return WakeSource(
        image=MemoryImage(place, has_pages=memory.has_pages), spec=spec, control_key=memory.control_key,
        host_key=memory.host_key, hypervisor_version=memory.hypervisor_version, traits=memory.traits,
    )  # fmt: skip


def _make_nics(kind: str) -> tuple[Nic, ...]:
    """Of their kind; whoever wakes gets its own."""
    match kind:
        case "user":
            return (UserNic(""),)
        case "stream":
            return (StreamNic("", NOWHERE),)
        case "tap":
            return (TapNic("", ""),)
        case "shared":
            return (SharedNic("", "", ""),)
    return ()
