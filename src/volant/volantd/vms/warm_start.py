# SPDX-License-Identifier: Apache-2.0
"""A VM that wakes from a template in place of booting: `wake_from_template`."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from volant.contract.guest_config import GuestConfig
from volant.errors import Conflict, StorageFull, VolantError
from volant.volantd.guest.settings_line import send_settings
from volant.volantd.hypervisors.base import HostSupport, Machine, VmSpec
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.templates.shape import Shape, list_hardware_addresses
from volant.volantd.templates.store import Template
from volant.volantd.vms.disks import make_overlay
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.guest_settings import make_guest_config
from volant.volantd.vms.lifecycle import StartMachine, VmFiles, find_files, return_disk
from volant.volantd.vms.monitor import VmMonitor
from volant.volantd.vms.networking import detach
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import VmState
from volant.volantd.vms.waiting import is_settled, wait_for

logger = logging.getLogger(__name__)

SETTINGS_SECONDS = 60.0
BOOT_SECONDS = 600.0
# What a guest that has just booted is given to start its workload before the processor is used for a template.
DELAY_SECONDS = 3.0


class Tell(Protocol):
    def __call__(self, kind: str, record: VmRecord, *, cause: str) -> None: ...


async def wake_from_template(
    domain: Domain,
    tell: Tell,
    record: VmRecord,
    plugin: StoredPlugin,
    spec: VmSpec,
    shape: Shape,
    support: HostSupport,
    start: StartMachine,
) -> Machine | None:
    """None where there is no template of its shape, or where it does not do: that is told, and the template dropped."""
    template = domain.templates.find(shape)
    if template is None:
        return None
    wake = (
        _wake
        if shape.workload is None
        else partial(_wake_with_workload, find_files(domain.settings, record.id))
    )
    try:
        return await wake(record, plugin, template, spec, shape, support, start)
    except Conflict:
        raise  # a port that is taken stays so
    except VolantError as error:
        logger.warning("VM %s boots: %s", record.name, error)
        domain.templates.forget(template)
        tell("cold_boot", record, cause=error.what)
        await detach(record)
        return None


async def provide_templates(
    domain: Domain, monitor: VmMonitor, record: VmRecord, shapes: Sequence[Shape]
) -> None:
    """Once a guest is up that would have woken: the next VM of its shapes will. What serves most comes first."""
    if not await monitor.wait_connected(BOOT_SECONDS):
        return
    await asyncio.sleep(DELAY_SECONDS)
    for shape in reversed(shapes):
        if shape.workload is None or await _is_healthy(domain, record):
            await domain.templates.provide(shape)


async def _is_healthy(domain: Domain, record: VmRecord) -> bool:
    """Whether its workload comes up at all, once that is known: a template of one that does not is of no use."""
    found = await wait_for(domain.registry, domain.events, record.id, "healthy", BOOT_SECONDS)
    return found.state is VmState.RUNNING and is_settled(found, "healthy")


async def _wake(
    record: VmRecord,
    plugin: StoredPlugin,
    template: Template,
    spec: VmSpec,
    shape: Shape,
    support: HostSupport,
    start: StartMachine,
) -> Machine:
    """Start a VM's process from a template's memory; its agent goes on with the VM's own disk, network and settings."""
    config = make_guest_config(record, plugin, shape.modules, support.control, spec.nics)
    return await _start_with(config, list_hardware_addresses(spec), template, spec, start)


async def _wake_with_workload(
    files: VmFiles,
    record: VmRecord,
    plugin: StoredPlugin,
    template: Template,
    spec: VmSpec,
    shape: Shape,
    support: HostSupport,
    start: StartMachine,
) -> Machine:
    """The same from a template in which the workload is up: a copy of memory and disk, which becomes this VM before
    anything in it goes on. Until then the disk is not its own (`return_disk`)."""
    config = make_guest_config(record, plugin, [], support.control, spec.nics)
    files.borrowed.touch(mode=0o600)
    try:
        await asyncio.to_thread(_copy_disk, template.disk, files.disk)
        machine = await _start_with(config, [], template, spec, start)
    except BaseException:
        return_disk(files)
        await asyncio.to_thread(make_overlay, files.disk, plugin.payload, plugin.format, None)
        raise
    files.borrowed.unlink()
    return machine


async def _start_with(
    config: GuestConfig,
    hardware_addresses: Sequence[str],
    template: Template,
    spec: VmSpec,
    start: StartMachine,
) -> Machine:
    """The template's memory in a process of this VM's, whose agent has taken the settings; else there is no process."""
    assert spec.initrd is not None
    spec.initrd.write_bytes(b"")  # the template's has been taken
    machine = await start(replace(spec, wakes_from=template.image))
    try:
        await machine.resume()
        await _tell(machine, config, hardware_addresses)
    except BaseException:
        await asyncio.shield(machine.kill())
        raise
    return machine


async def _tell(machine: Machine, config: GuestConfig, hardware_addresses: Sequence[str]) -> None:
    stream = await machine.open_control()
    await send_settings(stream, config, hardware_addresses, timeout_seconds=SETTINGS_SECONDS)


def _copy_disk(source: Path, target: Path) -> None:
    try:
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o600)
    except OSError as error:
        raise StorageFull(f"cannot copy the template's disk: {error.strerror or error}") from error
