# SPDX-License-Identifier: Apache-2.0
"""Volumes as a VM has them: which it may have, its disks, and what its guest is told of them.

A volume has one VM that writes to it, or any number that read. That counts for VMs that run or sleep; who only has it
in its definition waits for the other to stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from volant.contract.guest_config import Mount
from volant.errors import Conflict, InvalidInput
from volant.volantd.hypervisors.base import DiskDrive
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.record import AttachedVolume, VmDefinition, VmRecord
from volant.volantd.vms.states import WITH_PROCESS, VmState
from volant.volantd.vms.targets import read_target
from volant.volantd.volumes.store import find_disk, make_serial

logger = logging.getLogger(__name__)

MOST_VOLUMES = 16


def attach_volumes(
    domain: Domain, wanted: Sequence[tuple[str, str, bool]], made: Collection[str] = (), *, go: bool = False
) -> list[AttachedVolume]:
    """`wanted`: name, target and whether it is only read; `made`: names of those that were made for this VM, which `go`
    with it. Raises NotFound, InvalidInput."""
    if len(wanted) > MOST_VOLUMES:
        raise InvalidInput(f"cannot attach {len(wanted)} volumes: a VM has at most {MOST_VOLUMES}")
    attached = [
        AttachedVolume(
            name=volume.name,
            id=volume.id,
            target=_read_target(name, target),
            read_only=read_only,
            made_with_vm=name in made,
            goes_with_vm=go and name in made,
        )
        for name, target, read_only in wanted
        for volume in (domain.volumes.get(name),)
    ]
    for what, values in (
        ("name", [each.name for each in attached]),
        ("target", [each.target for each in attached]),
    ):
        if twice := [value for value in values if values.count(value) > 1]:
            raise InvalidInput(f"cannot attach two volumes with the same {what}: {twice[0]}")
    # A folder in another's is mounted after it.
    return sorted(attached, key=lambda each: each.target)


def _read_target(name: str, target: str) -> str:
    return read_target(target, f"cannot attach volume {name}", example=f"--volume {name}:/data")


def let_go_of_made(definition: VmDefinition) -> VmDefinition:
    """The volumes that were made with the VM go with it."""
    return definition.model_copy(
        update={
            "volumes": [
                volume.model_copy(update={"goes_with_vm": volume.made_with_vm})
                for volume in definition.volumes
            ]
        }
    )


async def remove_going(domain: Domain, record: VmRecord) -> None:
    """Of a VM that is being deleted; what somebody else has, or copies, stays."""
    store = domain.volumes
    for attached in record.definition.volumes:
        volume = store.read(attached.id) if attached.goes_with_vm else None
        if volume is None:
            continue
        try:
            store.check_unused(volume, but=record.name)
            with store.busy(volume, "deleted"):
                await asyncio.to_thread(store.remove, volume)
        except Conflict as error:
            logger.info("volume %s stays when VM %s goes: %s", volume.name, record.name, error.what)


def claim_volumes(domain: Domain, record: VmRecord) -> None:
    """Right before a VM starts, and without a wait in between. Conflict where another one has what it needs."""
    for wanted in record.definition.volumes:
        domain.volumes.check_idle(wanted.id)
        for other, theirs in find_holders(domain, wanted.id):
            if other.id != record.id and not (wanted.read_only and theirs.read_only):
                verb = "reads" if theirs.read_only else "writes to"
                raise Conflict(
                    f"cannot start VM {record.name}: VM {other.name} {verb} volume {wanted.name}",
                    resolution=f"stop it first: volar vms stop {other.name}; several VMs can share it read-only (:ro)",
                )


def find_holders(domain: Domain, volume_id: str) -> list[tuple[VmRecord, AttachedVolume]]:
    """The VMs that run or sleep with the volume."""
    users = [
        domain.registry.get(name)
        for name in domain.registry.find_users("volume", domain.volumes.get(volume_id).name)
    ]
    return [
        (record, attached)
        for record in users
        if record.state in WITH_PROCESS or record.state is VmState.SUSPENDED
        for attached in record.definition.volumes
        if attached.id == volume_id
    ]


def make_drives(record: VmRecord, state_dir: Path) -> tuple[DiskDrive, ...]:
    return tuple(
        DiskDrive(find_disk(state_dir, volume.id), "raw", make_serial(volume.id), read_only=volume.read_only)
        for volume in record.definition.volumes
    )


def make_mounts(record: VmRecord) -> list[Mount]:
    return [
        Mount(serial=make_serial(volume.id), target=volume.target, read_only=volume.read_only)
        for volume in record.definition.volumes
    ]


def find_drive(record: VmRecord, volume_id: str) -> int:
    """The number of the volume's disk among those of the VM's machine."""
    serials = [disk.serial for disk in record.spec.disks] if record.spec is not None else []
    return serials.index(make_serial(volume_id))
