# SPDX-License-Identifier: Apache-2.0
"""The daemon's start: VMs that run are found again, what was cut off is finished or undone.

All VMs at once, each under its lock. One that does not answer keeps neither the daemon nor another VM waiting.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from volant.errors import Conflict, VolantError
from volant.volantd.hypervisors.base import Machine, MachineState
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.hypervisors.crash import find_cause
from volant.volantd.hypervisors.host_process import ExitStatus, read_boot_id
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.vms.disk_layers import name_overlay, settle_overlay
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.held_ports import KIND, name_key
from volant.volantd.vms.holding import is_held, unmark_held
from volant.volantd.vms.kept_memory import has_memory
from volant.volantd.vms.lifecycle import find_files
from volant.volantd.vms.networking import guard, is_shared, prepare_network, sleeps_when_idle
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.recovery import remove_debris, set_aside_unknown
from volant.volantd.vms.restart_policy import read_policy
from volant.volantd.vms.restoring import finish_restore
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS, VmState
from volant.volantd.vms.vm_file import NAME as VM_FILE
from volant.volantd.vms.waking import find_memory
from volant.whole_file import sweep_partial_files, write_whole_file

logger = logging.getLogger(__name__)

# How long the daemon's start waits for VMs to be found again before it serves without them.
HEAD_START_SECONDS = 1.0
CONSOLE_LINES = 50
HOLD_POLL_SECONDS, HOLD_TRIES = 0.05, 40


async def adopt_all(
    fleet: Fleet, *, restores: bool = True, head_start_seconds: float = HEAD_START_SECONDS
) -> None:
    """Returns when all is as it should be or after the head start; the rest goes on.

    `restores`: VMs that should run and do not are started again; not while the host goes down.
    """
    for row in fleet.domain.registry.set_aside_unreadable():
        logger.error("VM %s: its row cannot be read and was set aside: %s", row.name, row.problem)
        fleet.domain.events.add("unreadable_row", row.name, id=row.id, problem=row.problem)
    for folder in (fleet.domain.settings.state_dir, fleet.domain.settings.cache_dir):
        sweep_partial_files(folder)
    set_aside_unknown(fleet.domain)
    left: list[tuple[RunningVm, VmRecord]] = []
    is_new_boot = note_boot(fleet.domain.settings.state_dir / "boot_id")
    for record in fleet.domain.registry.walk():
        files = find_files(fleet.domain.settings, record.id)
        remove_debris(files, is_running=record.state in WITH_PROCESS)
        if not record.deleting and not (files.folder / VM_FILE).exists():
            try:
                fleet.find(record.id).write_file(record)
            except (VolantError, OSError) as problem:  # a full disk, a plugin that no row names
                logger.error("VM %s cannot be described in its folder: %s", record.name, problem)
        is_stopped = not record.wanted and record.state is not VmState.SUSPENDED
        if is_new_boot and record.definition.restart == "always" and record.started_at and is_stopped:
            record = fleet.domain.registry.update(record, wanted=True)
        has_work = (
            record.state in (*WITH_PROCESS, VmState.SUSPENDED) or record.definition.restores_to is not None
        )
        if record.deleting or record.wanted or has_work:
            vm = fleet.find(record.id)
            # Free as yet, so this does not wait: what people ask for comes after the adoption.
            await vm.lock.acquire()
            left.append((vm, record))
    # Before any of them begins: what it publishes from now on stays.
    running = [name_key(vm.id) for vm, record in left if record.state in WITH_PROCESS]
    await fleet.domain.carrier.keep(KIND, running)
    for vm, record in left:
        settling = _settle(fleet, vm, record, restores)
        vm.adoption = fleet.background.run(settling, f"adoption of {record.name}")
    if left:
        tasks = [vm.adoption for vm, _ in left if vm.adoption is not None]
        await asyncio.wait(tasks, timeout=head_start_seconds)


def note_boot(path: Path) -> bool:
    """Whether the host has been restarted since the last daemon; not where there was none."""
    current = read_boot_id()
    before = path.read_text(errors="replace") if path.exists() else current
    if before != current or not path.exists():
        write_whole_file(path, current.encode(), mode=0o600)
    return before != current


async def _settle(fleet: Fleet, vm: RunningVm, record: VmRecord, restores: bool) -> None:
    """One VM, whose lock is held: as it should be after the daemon's start."""
    try:
        if record.deleting:
            await fleet.finish_delete(vm, record)
            return
        if record.definition.restores_to is not None:
            await _restore_again(fleet, vm, record)
        elif has_memory(vm.files.folder) or record.state is VmState.SUSPENDED:
            await _settle_suspended(fleet, vm, record)
        elif record.state in WITH_PROCESS:
            await _adopt(fleet, vm, record)
    except Exception:
        logger.exception("VM %s: cannot take it over", record.name)
    finally:
        vm.lock.release()
        vm.adoption = None
    record = vm.record
    if restores and record.wanted and record.state in (VmState.STOPPED, VmState.FAILED):
        fleet.background.run(vm.start_again(record.restarts), f"restart of {record.name}")


async def _settle_suspended(fleet: Fleet, vm: RunningVm, record: VmRecord) -> None:
    """Its memory is there and nothing has happened to its disk since, whatever its row says: what was cut off, on the
    way in or out, ends here. Where it is not there any more, the VM is stopped."""
    machine = await _find_machine(fleet, record)
    if machine is not None:
        await machine.kill()
    await vm.take_down(record, keeps_ports=True)
    unmark_held(vm.files.folder)
    record = fleet.domain.registry.update(record, process=None)
    if sleeps_when_idle(record) and has_memory(vm.files.folder):
        try:
            await _hold_ports(vm, record, await _find_network(fleet, vm, record))
        except VolantError as error:
            logger.warning("VM %s is not woken by who connects: %s", record.name, error)
    if not has_memory(vm.files.folder):
        vm.move("resume", VmState.STOPPED, "its memory is gone", wanted=False)
    elif record.state in (VmState.STARTING, VmState.RUNNING):
        vm.move("suspend", VmState.SUSPENDED, "volantd ended meanwhile", wanted=False)


async def _find_network(fleet: Fleet, vm: RunningVm, record: VmRecord) -> SharedNetwork | None:
    """Where a VM that sleeps is going to wake."""
    source = find_memory(record, vm.files.folder)
    plugin = fleet.domain.plugins.load(record.plugin_reference)
    return await prepare_network(fleet.domain, record, plugin, source)


async def _restore_again(fleet: Fleet, vm: RunningVm, record: VmRecord) -> None:
    machine = await _find_machine(fleet, record)
    if machine is not None:
        await machine.kill()
    await vm.take_down(record)
    await finish_restore(vm)


async def _adopt(fleet: Fleet, vm: RunningVm, record: VmRecord) -> None:
    machine = await _find_machine(fleet, record)
    if machine is None:
        await _write_loss(fleet, vm, record)
        return
    if record.state is VmState.STARTING and _is_anothers(record, vm):
        # Made of another's memory, and nobody knows how far it had become itself: it boots from its disk.
        await machine.kill()
        await _write_loss(fleet, vm, fleet.domain.registry.update(record, process=None))
        return
    record = fleet.domain.registry.update(record, process=machine.identity)
    if name_overlay(vm.files.disk).exists():
        settle_overlay(vm.files.disk, await machine.find_layer(0))
    try:
        await guard(record, fleet.domain)
        await _hold_ports(vm, record, fleet.domain.shared_network if is_shared(record) else None)
    except VolantError as error:
        logger.warning("VM %s: %s", record.name, error)
    if record.state is VmState.PAUSED and machine.state is MachineState.RUNNING:
        await machine.pause()
    vm.follow(record, machine)
    vm.tell("adopted", record)
    if is_held(vm.files.folder):
        await vm.let_go(timeout_seconds=0)
    if record.state is VmState.STOPPING:
        fleet.background.run(_stop_again(fleet, record), f"stop of {record.name}")


async def _hold_ports(vm: RunningVm, record: VmRecord, network: SharedNetwork | None) -> None:
    """The daemon before this one may not have let go of them yet, where it was killed this very moment."""
    for is_last in (*[False] * HOLD_TRIES, True):
        try:
            await vm.ports.hold(record, network)
            return
        except Conflict:
            if is_last:
                raise
        await asyncio.sleep(HOLD_POLL_SECONDS)


def _is_anothers(record: VmRecord, vm: RunningVm) -> bool:
    """Whether it wakes from what was not its own memory."""
    image = record.spec.wakes_from if record.spec is not None else None
    return image is not None and vm.files.folder not in image.folder.parents


async def _find_machine(fleet: Fleet, record: VmRecord) -> Machine | None:
    """The process that its row names, or one that was born just before the daemon was killed."""
    if record.spec is None:
        return None
    hypervisor = fleet.domain.find_hypervisor(record.hypervisor)
    identity = record.process or await asyncio.to_thread(hypervisor.find_process, record.spec)
    return None if identity is None else await hypervisor.adopt(identity, record.spec)


async def _write_loss(fleet: Fleet, vm: RunningVm, record: VmRecord) -> None:
    await vm.take_down(record)
    unmark_held(vm.files.folder)
    is_rebooted = record.process is not None and record.process.boot_id != read_boot_id()
    if record.state is VmState.STOPPING:
        vm.move("stop", VmState.STOPPED, process=None, wanted=False)
    elif is_rebooted or record.process is None:
        again = record.wanted and (record.definition.restart != "no" or not is_rebooted)
        reason = "the host was restarted" if is_rebooted else "volantd ended while it was starting the VM"
        vm.move("stop", VmState.STOPPED, reason, process=None, wanted=again)
    else:
        policy = read_policy(record.definition.restart)
        ran = record.state in (VmState.RUNNING, VmState.PAUSED)
        again = ran and policy.wants(is_failure=True, restarts=record.restarts)
        if again:
            fleet.domain.registry.update(record, restarts=record.restarts + 1)
        console = read_last_lines(vm.files.console_log, CONSOLE_LINES)
        crash = find_cause(ExitStatus(), console, killed_for_memory=False)
        said = f": {crash.line}" if crash.line else ""
        vm.fail(f"its hypervisor process ended while volantd was away{said}", wanted=again, crash=crash)


async def _stop_again(fleet: Fleet, record: VmRecord) -> None:
    try:
        await fleet.stop(record.id)
    except VolantError as error:
        logger.warning("VM %s: cannot finish stopping it: %s", record.name, error)
