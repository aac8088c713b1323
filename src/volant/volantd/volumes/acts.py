# SPDX-License-Identifier: Apache-2.0
"""What people ask of volumes that VMs may have in use: resize, back up, delete."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict

from volant import __version__
from volant.errors import InvalidInput, VolantError
from volant.volantd.backup.archive import ArchiveWriter, BackupResult, unpack
from volant.volantd.clock import now
from volant.volantd.vms.disks import check_layer, list_chain, read_virtual_size, run_qemu_img
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.holding import hold
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import VmState
from volant.volantd.vms.volumes import find_drive, find_holders
from volant.volantd.volumes.store import DISK as RAW_DISK
from volant.volantd.volumes.store import Volume, VolumeStore, make_serial

logger = logging.getLogger(__name__)

HEAD, DISK = "volume.json", "disk.qcow2"
AGENT_SECONDS = 5.0


class VolumeHead(BaseModel):
    """What a volume's archive begins with."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    format: Literal[1] = 1
    version: str
    taken_at: str
    name: str
    size_bytes: int


async def resize(fleet: Fleet, name: str, size_bytes: int) -> Volume:
    """Larger at once where it lies, and in the guest that writes to it; in one that is stopped when it starts."""
    store = fleet.domain.volumes
    volume = store.get(name)
    with store.busy(volume, "resized"):
        resized = await asyncio.to_thread(store.resize, volume, size_bytes)
        for record, attached in find_holders(fleet.domain, volume.id):
            async with fleet.locked(record.id) as vm:
                await _grow_in_guest(vm, resized, read_only=attached.read_only)
    return resized


async def _grow_in_guest(vm: RunningVm, volume: Volume, *, read_only: bool) -> None:
    machine = vm.monitor.machine if vm.monitor is not None else None
    if machine is None:
        return
    await machine.resize_disk(find_drive(vm.record, volume.id), volume.size_bytes)
    if read_only or vm.record.has_own_system or vm.record.state is not VmState.RUNNING:
        return
    guest = await vm.connect(AGENT_SECONDS)
    if "volume-grow" in guest.control.hello.features:
        await guest.control.grow_volume(make_serial(volume.id))


async def delete(fleet: Fleet, name: str) -> None:
    """Conflict while a VM has it, running or not."""
    store = fleet.domain.volumes
    volume = store.get(name)
    store.check_unused(volume)
    with store.busy(volume, "deleted"):
        await asyncio.to_thread(store.remove, volume)


async def copy_volume(fleet: Fleet, volume: Volume, target: Path) -> str:
    """What the volume is at one instant, as a QCOW2; a note where a guest was not held still for it, or empty.

    A guest that writes to it stands still until QEMU has begun, and writes on while the copy is made.
    """
    store = fleet.domain.volumes
    with store.busy(volume, "copied"):
        writer = next(
            (record for record, held in find_holders(fleet.domain, volume.id) if not held.read_only), None
        )
        if writer is not None:
            async with fleet.locked(writer.id) as vm:
                if (note := await _copy_from_machine(vm, volume, target)) is not None:
                    return note
        arguments = ("convert", "-f", "raw", "-O", "qcow2", str(store.find_disk(volume)), str(target))
        await asyncio.to_thread(run_qemu_img, target, *arguments)
        return ""


async def _copy_from_machine(vm: RunningVm, volume: Volume, target: Path) -> str | None:
    """None where the machine has ended, or sleeps: the volume is at rest."""
    record = vm.record
    machine = vm.monitor.machine if vm.monitor is not None else None
    if machine is None or record.state is VmState.SUSPENDED:
        return None
    await asyncio.to_thread(
        run_qemu_img, target, "create", "-q", "-f", "qcow2", str(target), str(volume.size_bytes)
    )
    async with AsyncExitStack() as stack:
        is_held = await hold(vm, record, AGENT_SECONDS, stack)
        await machine.copy_disk(find_drive(record, volume.id), target, stack.aclose)
    return (
        ""
        if is_held
        else f"VM {record.name} was not held still: volume {volume.name} is as after a power cut"
    )


async def stream_backup(fleet: Fleet, name: str) -> AsyncIterator[bytes]:
    """The archive of one volume. An error ends it with a result that says so."""
    store = fleet.domain.volumes
    volume = store.get(name)
    writer = ArchiveWriter()
    head = VolumeHead(version=__version__, taken_at=now(), name=volume.name, size_bytes=volume.size_bytes)
    error, notes = "", []
    with store.draft() as (_, hidden):
        copy = hidden / DISK
        try:
            if note := await copy_volume(fleet, volume, copy):
                notes.append(note)
            yield writer.write_document(HEAD, head.model_dump_json().encode())
            async for chunk in writer.write_file(DISK, copy):
                yield chunk
        except (VolantError, OSError) as problem:
            logger.warning("a backup of volume %s was not finished: %s", volume.name, problem)
            error = problem.what if isinstance(problem, VolantError) else str(problem)
    yield writer.write_end(BackupResult(error=error, notes=notes))


def take_in(store: VolumeStore, stream: BinaryIO, name: str) -> Volume:
    """A new volume of an archive that somebody hands over; blocking. All of it or nothing."""
    with store.draft() as (identity, hidden):
        head = unpack(stream, hidden, (DISK,), HEAD, VolumeHead)
        volume = Volume(id=identity, name=name or head.name, size_bytes=head.size_bytes, created_at=now())
        store.check_free(volume.name)
        unpack_disk(hidden, volume)
        return store.publish(volume, hidden)


def unpack_disk(folder: Path, volume: Volume) -> None:
    """The QCOW2 of an archive as the file that VMs use. InvalidInput where it is not what it should be."""
    packed, disk = folder / DISK, folder / RAW_DISK
    check_layer(packed)
    if len(list(list_chain(packed))) > 1 or read_virtual_size(packed) != volume.size_bytes:
        raise InvalidInput(f"cannot restore volume {volume.name}: its disk is not what the archive says")
    run_qemu_img(disk, "convert", "-f", "qcow2", "-O", "raw", str(packed), str(disk))
    disk.chmod(0o600)
    packed.unlink()
