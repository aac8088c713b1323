# SPDX-License-Identifier: Apache-2.0
"""Memory to running VM, in `wake_vm`: what `boot_vm` is for a plugin, for a VM that is made of another's memory.

The copy wakes with its processes frozen and with everything that made the original who it was. It becomes the VM of
this record before they go on: random numbers, time, name, address, hardware address, keys. Until then it answers to the
original's keys, which the source brings along.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from volant.errors import ToolFailed, VolantError
from volant.volantd.guest.connection import open_connection
from volant.volantd.guest.control import ControlClient, open_control
from volant.volantd.guest.settings_line import send_settings, send_wake
from volant.volantd.hypervisors.base import (
    DiskDrive,
    HostSupport,
    Hypervisor,
    Machine,
    MachineState,
    MemoryImage,
    Nic,
    SharedNic,
    TapNic,
    VmSpec,
)
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.network.user_mode import Reach
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.settings import Settings
from volant.volantd.vms.disks import list_chain
from volant.volantd.vms.guest_settings import ROOT_SERIAL, make_guest_config
from volant.volantd.vms.holding import is_held, unmark_held
from volant.volantd.vms.kept_memory import has_memory, read_memory
from volant.volantd.vms.keys import read_public_key
from volant.volantd.vms.lifecycle import Remember, VmFiles, find_files, make_folders, wait_for_network
from volant.volantd.vms.monitor import VmMonitor
from volant.volantd.vms.networking import attach, choose_reach, make_nics
from volant.volantd.vms.record import VmRecord, WakeSource
from volant.volantd.vms.stopping import AGENT_WAIT_SECONDS

logger = logging.getLogger(__name__)

ENTROPY_BYTES = 64
HANDSHAKE_SECONDS = 60.0
# Between tries to let a guest go on.
RETRY_SECONDS = 1.0
# More takes longer to copy than QEMU to come up.
MOST_COPIED_BYTES = 512 << 20
NOUNS = {"devices": "set of devices", "hardware": "set of devices"}


def find_memory(record: VmRecord, folder: Path) -> WakeSource | None:
    """What a VM wakes from at its next start: its own memory where it is suspended, that of the snapshot that it
    returns to, and at its first start what it is made of."""
    if has_memory(folder):
        return read_memory(folder)
    if record.definition.restores_to is not None:
        return record.definition.restores_to.wake
    return record.definition.wakes_from if record.started_at is None else None


class CannotWake(Exception):
    """The memory is of no use on this host, as it is now: booting is what remains. Nobody but us sees it."""


async def wake_vm(
    record: VmRecord,
    plugin: StoredPlugin,
    source: WakeSource,
    hypervisor: Hypervisor,
    settings: Settings,
    remember: Remember,
    going_on: Callable[[], None] = lambda: None,
    network: SharedNetwork | None = None,
) -> Machine:
    """Start a VM's process from memory. Any error of ours leaves no process. `going_on` comes right before the
    machine's processors go on: before it nothing has happened to the disk that the memory fits."""
    files = find_files(settings, record.id)
    make_folders(files)
    support = await hypervisor.find_support(source.spec.architecture, kernel=source.spec.kernel)
    reach: Reach = (
        "shared" if network is not None else choose_reach(settings, support.version, record.definition.egress)
    )
    spec = make_wake_spec(record, source, files, make_nics(record, reach, files.sockets, network))
    check_fit(spec, source, support, hypervisor)
    files.initrd.write_bytes(b"")  # the original's has been taken, and held its keys
    is_copy = source.spec.id != record.id
    attachment = await attach(record, reach, files.folder, files.sockets, network, goes_on=not is_copy)
    try:
        await remember(spec)
        machine = await _start(hypervisor, spec, attachment.taps)
        try:
            await wait_for_network(attachment, machine, record.id)
            going_on()
            await machine.resume()
            if is_copy:
                await become(machine, record, plugin, source, support, spec.nics)
            else:
                await go_on(machine, source)
        except BaseException:
            await asyncio.shield(machine.kill())
            raise
    except BaseException:
        attachment.close()
        raise
    finally:
        attachment.release()
    return machine


async def _start(hypervisor: Hypervisor, spec: VmSpec, taps: Sequence[int]) -> Machine:
    try:
        return await hypervisor.start(spec, taps)
    except ToolFailed as error:
        raise CannotWake(f"cannot wake VM {spec.name}: {error.what}") from error


def make_wake_spec(record: VmRecord, source: WakeSource, files: VmFiles, nics: tuple[Nic, ...]) -> VmSpec:
    """The machine that the memory was of, with this VM's names, files and network."""
    disks = source.spec.disks
    if source.spec.id == record.id:
        nics = tuple(map(_keep_addresses, nics, source.spec.nics))
    if disks and disks[0].serial == ROOT_SERIAL:
        root = DiskDrive(files.disk, "qcow2", ROOT_SERIAL, backing=tuple(list_chain(files.disk))[1:])
        disks = (root, *disks[1:])
    return replace(
        source.spec, id=record.id, name=record.name, disks=disks, nics=nics, socket_folder=files.sockets,
        console_log=files.console_log, hypervisor_log=files.hypervisor_log, initrd=files.initrd,
        wakes_from=choose_image(record, source),
        disk_bytes_per_second=record.definition.disk_bytes_per_second,
    )  # fmt: skip


def _keep_addresses(nic: Nic, was: Nic) -> Nic:
    """A guest that goes on is told nothing: it has the addresses that it had."""
    if isinstance(nic, TapNic) and isinstance(was, TapNic):
        return replace(nic, ipv6_address=was.ipv6_address)
    if isinstance(nic, SharedNic) and isinstance(was, SharedNic):
        return replace(nic, address=was.address, ipv6_address=was.ipv6_address)
    return nic


def choose_image(record: VmRecord, source: WakeSource) -> MemoryImage:
    """A VM that goes on as who it was shares its memory with nobody. It gets a copy, so that its next snapshot or sleep
    is as quick as that of one that booted, unless there is so much that reading what is needed is quicker."""
    image = source.image
    if source.spec.id != record.id or not image.has_pages or not image.memory.exists():
        return image
    return replace(image, is_copied=image.memory.stat().st_blocks * 512 <= MOST_COPIED_BYTES)


def check_fit(spec: VmSpec, source: WakeSource, support: HostSupport, hypervisor: Hypervisor) -> None:
    """CannotWake where this host cannot give the memory the machine that it was of."""

    def refuse(reason: str) -> CannotWake:
        return CannotWake(f"cannot wake VM {spec.name}: {reason}")

    if not hypervisor.capabilities.restore:
        raise refuse(f"{hypervisor.kind} wakes no machines")
    if source.hypervisor != hypervisor.kind:
        raise refuse(f"its memory is of {source.hypervisor}")
    if source.hypervisor_version and source.hypervisor_version != support.version:
        raise refuse(f"its memory is of {source.hypervisor_version}, and this host has {support.version}")
    if source.spec.accelerator != support.accelerator:
        raise refuse(
            f"its memory is of {source.spec.accelerator}, and this host runs on {support.accelerator}"
        )
    if [type(nic) for nic in spec.nics] != [type(nic) for nic in source.spec.nics]:
        raise refuse("its memory is of a machine with another kind of network")
    here = hypervisor.find_traits(replace(spec, wakes_from=None))
    # The first says it more exactly, where it was known when the memory was taken.
    told_better = {"devices"} if "hardware" in source.traits else set()
    for name, value in source.traits.items():
        if name not in told_better and here.get(name) != value:
            found = f": {value} there, {here.get(name)} here" if name == "processor" else ""
            raise refuse(f"its memory is of a machine with another {NOUNS.get(name, name)}{found}")
    for path in (spec.kernel, source.image.state, *(disk.path for disk in spec.disks)):
        if path is not None and not path.exists():
            raise refuse(f"{path} is gone")


async def become(
    machine: Machine,
    record: VmRecord,
    plugin: StoredPlugin,
    source: WakeSource,
    support: HostSupport,
    nics: Sequence[Nic],
) -> None:
    """Make the copy this VM, and let its processes go on."""
    config = make_guest_config(record, plugin, [], support.control, nics)
    stream = await machine.open_control()
    if source.takes_settings:
        await send_settings(stream, config, [], timeout_seconds=HANDSHAKE_SECONDS)
        return
    async with _reach_original(stream, source) as control:
        await control.become(config, os.urandom(ENTROPY_BYTES))


async def go_on(machine: Machine, source: WakeSource) -> None:
    """Let the VM that this memory is of go on where it was, with the time of now and random numbers of its own."""
    stream = await machine.open_control()
    if source.wakes_by_line:
        await send_wake(stream, timeout_seconds=HANDSHAKE_SECONDS)
        return
    async with _reach_original(stream, source) as control:
        await control.wake(os.urandom(ENTROPY_BYTES))


@asynccontextmanager
async def _reach_original(stream: socket.socket, source: WakeSource) -> AsyncIterator[ControlClient]:
    """The agent as the memory has it: it answers to the keys of the VM that it was."""
    public_key = read_public_key(source.host_key)
    async with (
        open_connection(
            stream, source.control_key, public_key, timeout_seconds=HANDSHAKE_SECONDS
        ) as connection,
        open_control(connection) as control,
    ):
        yield control


async def let_go_on(vm_id: str, folder: Path, find_monitor: Callable[[], VmMonitor | None]) -> None:
    """Have the guest go on that is held; over as many connections as it takes, for as long as the machine runs."""
    while (monitor := find_monitor()) is not None and is_held(folder):
        if monitor.machine.state is MachineState.PAUSED and not monitor.machine.problem:
            await monitor.machine.resume()
        guest = await monitor.wait_connected(AGENT_WAIT_SECONDS)
        if guest is None:
            continue
        try:
            await _let_guest_go_on(guest.control)
        except VolantError as error:
            logger.warning("VM %s: cannot let its guest go on yet: %s", vm_id, error.what)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            unmark_held(folder)


async def _let_guest_go_on(control: ControlClient) -> None:
    """Nobody knows for how long it was held, or whether its memory was ever another's: where it can, it wakes."""
    if "wake" in control.hello.features:
        await control.wake(os.urandom(ENTROPY_BYTES))
    else:
        await control.thaw()
