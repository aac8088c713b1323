# SPDX-License-Identifier: Apache-2.0
"""A VM that wakes from a template in place of booting: `wake_from_template`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Protocol

from volant.errors import Conflict, VolantError
from volant.volantd.guest.settings_line import send_settings
from volant.volantd.hypervisors.base import HostSupport, Machine, VmSpec
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.templates.shape import Shape, list_hardware_addresses
from volant.volantd.templates.store import Template
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.guest_settings import make_guest_config
from volant.volantd.vms.lifecycle import StartMachine
from volant.volantd.vms.monitor import VmMonitor
from volant.volantd.vms.networking import detach
from volant.volantd.vms.record import VmRecord

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
    try:
        return await _wake(record, plugin, template, spec, shape, support, start)
    except Conflict:
        raise  # a port that is taken stays so
    except VolantError as error:
        logger.warning("VM %s boots: %s", record.name, error)
        domain.templates.forget(template)
        tell("cold_boot", record, cause=error.what)
        await detach(record)
        return None


async def provide_template(domain: Domain, monitor: VmMonitor, shape: Shape) -> None:
    """Once a guest is up that booted: the next VM of its shape need not."""
    if await monitor.wait_connected(BOOT_SECONDS):
        await asyncio.sleep(DELAY_SECONDS)
        await domain.templates.provide(shape)


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
    assert spec.initrd is not None
    spec.initrd.write_bytes(b"")  # the template's has been taken
    machine = await start(replace(spec, wakes_from=template.image))
    try:
        await machine.resume()
        config = make_guest_config(record, plugin, shape.modules, support.control)
        stream = await machine.open_control()
        await send_settings(stream, config, list_hardware_addresses(spec), timeout_seconds=SETTINGS_SECONDS)
    except BaseException:
        await asyncio.shield(machine.kill())
        raise
    return machine
