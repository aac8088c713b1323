# SPDX-License-Identifier: Apache-2.0
"""Disks that a plugin's manifest gives each of its VMs, and volumes that were asked for without a name: volumes, made
together with the VM and kept when it goes.

What a VM writes to is a volume of its own, VM-DISK; one of that name that is there already is taken: a VM of the same
name has its data again. What is only read is one volume for all VMs of the plugin. A volume is unsettled until the row
of its VM names it, so that a daemon that was killed in between knows what to remove (`VolumeStore.sweep`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from volant.contract.manifest import Disk, Manifest
from volant.contract.names import NAME_PATTERN
from volant.errors import Conflict, InvalidInput, VolantError
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.disk_sources import fetch_disk
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.making import Making
from volant.volantd.vms.targets import read_target
from volant.volantd.volumes.store import Volume, VolumeStore, read_volume_size

USUAL_SIZE = "10G"
# Of a digest, enough to tell two versions of a disk apart.
DIGEST_CHARACTERS = 12


@asynccontextmanager
async def with_disks(
    domain: Domain, request: NewVm, manifest: Manifest, making: Making
) -> AsyncIterator[NewVm]:
    """The request with the plugin's disks among its volumes. What was made goes if the VM does not come to be."""
    made: list[Volume] = []
    try:
        # What another VM's memory knows is not changed.
        if request.origin is None or request.origin.wake is None:
            request = await _add_disks(domain.volumes, request, manifest, made, making)
        making.check()
        yield request
    except BaseException:
        for volume in made:
            with contextlib.suppress(VolantError):
                await asyncio.shield(_remove_unused(domain.volumes, volume))
        raise
    for volume in made:
        domain.volumes.settle(volume)


async def _add_disks(
    store: VolumeStore, request: NewVm, manifest: Manifest, made: list[Volume], making: Making
) -> NewVm:
    named = [volume for volume in request.volumes if volume[0]]
    nameless = [
        Disk(name=_name_disk(target), target=target) for name, target, _ in request.volumes if not name
    ]
    taken = {_read_target(target) for _, target, _ in (*named, *request.mounts)}
    volumes = list(named)
    for disk in (*nameless, *manifest.disks):
        target = _read_target(disk.target or f"/mnt/{disk.name}")
        if target in taken:
            continue
        taken.add(target)
        name = _name_volume(request.name, manifest, disk)
        if not store.has(name) and (volume := await _make(store, name, disk, making)) is not None:
            made.append(volume)
        volumes.append((name, target, disk.readonly))
    return replace(request, volumes=volumes, made_volumes=[volume.name for volume in made])


def _read_target(target: str) -> str:
    return read_target(target, "cannot mount a disk", example='target = "/data"')


def _name_disk(target: str) -> str:
    """By its folder: var-lib-app. InvalidInput where nothing of it makes a name."""
    name = re.sub(r"[^a-z0-9_]+", "-", _read_target(target).lower()).strip("-_")
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidInput(
            f"cannot name a volume for {target}", resolution=f"give it a name: --volume NAME:{target}"
        )
    return name


def _name_volume(vm_name: str, manifest: Manifest, disk: Disk) -> str:
    if disk.readonly and disk.checksum is not None:
        return f"{manifest.name}-{disk.name}-{disk.checksum.removeprefix('sha256:')[:DIGEST_CHARACTERS]}"
    return f"{vm_name}-{disk.name}"


async def _make(store: VolumeStore, name: str, disk: Disk, making: Making) -> Volume | None:
    """None where somebody else made it meanwhile."""
    making.check()
    if disk.source is None:
        make = partial(store.create, name, read_volume_size(disk.size or USUAL_SIZE), is_settled=False)
    else:
        fetch = partial(fetch_disk, disk, cancelled=making.cancelled, tell=making.make_teller(disk.name))
        make = partial(store.make, name, fetch, is_settled=False)
    work = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        making.cancelled.set()
        with contextlib.suppress(VolantError, OSError):
            await _remove_unused(store, await work)
        raise
    except Conflict:
        making.check()
        if not store.has(name):
            raise
        return None
    except OSError as error:
        raise InvalidInput(f"cannot make disk {disk.name}: {error.strerror or error}") from error


async def _remove_unused(store: VolumeStore, volume: Volume) -> None:
    """Another VM may have found it meanwhile."""
    store.check_unused(volume)
    with store.busy(volume, "deleted"):
        await asyncio.to_thread(store.remove, volume)
