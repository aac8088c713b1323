# SPDX-License-Identifier: Apache-2.0
"""One VM of this daemon and all that belongs to it while it lives: lock, monitor, port forwarder, log.

Its row is read from the registry each time, so that nobody works with what has changed meanwhile. `start` and `stop`
are called with the lock held; what the monitor tells comes in between, as it happens.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from functools import cached_property, partial
from typing import Unpack

from volant.contract.agent import AgentState
from volant.errors import NotFound, StorageFull, VolantError, WrongState
from volant.volantd.host_state import is_host_stopping
from volant.volantd.hypervisors.base import CrashCause, EndKind, Machine, MachineEnd, MachineState
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.request_context import outside_of_requests
from volant.volantd.tasks import finish_in_thread
from volant.volantd.vms.background import Background
from volant.volantd.vms.definition import check_kernel
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.endings import find_outcome, find_restarts
from volant.volantd.vms.folders import serve_folders
from volant.volantd.vms.held_ports import HeldPorts
from volant.volantd.vms.history import Action
from volant.volantd.vms.hypervisor_choice import check_change
from volant.volantd.vms.lifecycle import VmFiles, find_files
from volant.volantd.vms.monitor import Guest, VmMonitor
from volant.volantd.vms.networking import detach, sleeps_when_idle
from volant.volantd.vms.process_log import ProcessLog
from volant.volantd.vms.reaching import open_console, reach_guest
from volant.volantd.vms.record import AgentFacts, VmRecord
from volant.volantd.vms.registry import VmChanges
from volant.volantd.vms.restart_policy import STABLE_SECONDS, find_delay_seconds
from volant.volantd.vms.starting import Start
from volant.volantd.vms.states import WITH_PROCESS, VmState
from volant.volantd.vms.stopping import AGENT_WAIT_SECONDS, ask_agent_to_stop, press_power_button
from volant.volantd.vms.update import SLEEP, VmUpdate, apply_update
from volant.volantd.vms.use import Use
from volant.volantd.vms.vm_file import write_vm_file
from volant.volantd.vms.waiting import wait_for
from volant.volantd.vms.waking import let_go_on
from volant.volantd.vms.warm_start import provide_templates

logger = logging.getLogger(__name__)

CONSOLE_TAIL_LINES = 20
# How long a full disk may keep the end of a process from being written before whoever asked is told.
WRITE_SECONDS = 10.0
# How long whoever connects to a VM that could not wake waits for it to boot.
BOOT_SECONDS = 120.0


class RunningVm:
    def __init__(self, domain: Domain, vm_id: str, background: Background) -> None:
        self.id = vm_id
        self.lock = asyncio.Lock()
        self.monitor: VmMonitor | None = None
        self.adoption: asyncio.Task[None] | None = None
        self.ports = HeldPorts(domain.carrier, vm_id, self.wake)
        self.use = Use()
        self.going_on: asyncio.Task[None] | None = None
        self._followed_at = 0.0
        self._domain = domain
        self._registry = domain.registry
        self._background = background

    @property
    def record(self) -> VmRecord:
        """The row as it is now; NotFound once it is deleted."""
        return self._registry.get(self.id)

    @property
    def files(self) -> VmFiles:
        return find_files(self._domain.settings, self.id)

    @cached_property
    def log(self) -> ProcessLog:
        return ProcessLog(self.files.process_log, self._domain.settings.log_limit_bytes)

    @property
    def problem(self) -> str:
        """What its machine complains about while it runs, or empty."""
        return self.monitor.machine.problem if self.monitor else ""

    # What people ask for

    async def start(self, *, restarts: int = 0, cold: bool = False) -> VmRecord:
        """Returns while it boots, or once it goes on where it was suspended. Failed to start: an error, and state
        failed, or suspended as before. `restarts` in a row led to this; `cold` boots whatever it could wake from,
        and so do the starts that follow by themselves until it has run."""
        start = Start(self, self._domain, restarts=restarts, cold=cold)
        record = await start.run()
        if start.lacking and self.monitor is not None:
            providing = provide_templates(self._domain, self.monitor, record, start.lacking)
            self._background.run(providing, f"templates by {record.name}")
        return record

    async def let_go(self, timeout_seconds: float) -> None:
        """Have a guest go on that was held for a snapshot. What takes longer goes on beside: nobody waits for a guest
        that does not answer."""
        work = let_go_on(self.id, self.files.folder, lambda: self.monitor)
        self.going_on = self._background.run(work, f"letting {self.id} go on")
        await asyncio.wait({self.going_on}, timeout=timeout_seconds)

    async def stop(self, timeout_seconds: float, *, force: bool) -> VmRecord:
        """In order by its agent or power button; by force when that takes too long or is asked for."""
        record = self.record
        if record.state not in WITH_PROCESS:
            if not record.wanted:
                raise WrongState(f"cannot stop VM {record.name}: it is {record.state.value}")
            # It was to be started again, and is not now.
            record = self._registry.update(record, wanted=False)
            self.tell("state", record)
            return record
        if record.state is not VmState.STOPPING:
            try:
                record = self.move("stop", VmState.STOPPING, wanted=False)
            except StorageFull as error:
                # Ending it may be what makes room; its end is written as soon as there is some.
                logger.warning("VM %s: %s; it is stopped all the same", record.name, error.what)
        monitor = self.monitor
        if monitor is None:
            await self.take_down(record)
            return self._registry.move(record, "stop", VmState.STOPPED, process=None)
        if not force:
            if monitor.machine.state is MachineState.PAUSED and not monitor.machine.problem:
                await monitor.machine.resume()
            ask = press_power_button if record.has_own_system else ask_agent_to_stop
            monitor.kill_reason = await ask(monitor, timeout_seconds)
        await monitor.machine.kill()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await monitor.wait_ended()
        except TimeoutError:
            raise StorageFull(
                f"cannot write that VM {record.name} has stopped: it has, and it is written once there is room",
                resolution="free some space in the state folder",
            ) from None
        return self.record

    def move(self, verb: str, target: VmState, reason: str = "", **changes: Unpack[VmChanges]) -> VmRecord:
        """Its state along a legal move, and told."""
        record = self._registry.move(self.record, verb, target, reason, **changes)
        self.tell("state", record)
        return record

    def change(self, action: Action | None = None, **changes: Unpack[VmChanges]) -> VmRecord:
        """Its row, and the file in its folder; with `action` its history."""
        with self._domain.database.transaction():
            before = self.record
            record = self._registry.update(before, **changes)
            if action is not None:
                self._domain.history.add(action, before, record)
        self.write_file(record)
        return record

    def update(self, update: VmUpdate) -> VmRecord:
        """Change what it is; what its process was given already is pending until the next start."""
        record = self.record
        plugin = self._domain.plugins.get(record.plugin_reference)
        check_kernel(record.name, plugin.boot, is_chosen=bool(update.kernel or update.kernel_arguments))
        disk_bytes = record.definition.disk_size_bytes or plugin.virtual_size_bytes
        changed = apply_update(record, update, disk_bytes)
        if SLEEP in changed.changed:
            check_change(self._domain, record, changed.definition)
        if changed.changed:
            lives = record.state in WITH_PROCESS or record.state is VmState.SUSPENDED
            pending = changed.at_start if lives else ()
            record = self.change(
                "update", definition=changed.definition, ports=changed.ports,
                pending=[*record.pending, *(name for name in pending if name not in record.pending)],
            )  # fmt: skip
            self.tell("updated", record, changed=list(changed.changed))
        return record

    async def connect(self, timeout_seconds: float = AGENT_WAIT_SECONDS) -> Guest:
        """The agent's connection; WrongState or Unreachable where there is none."""
        if self.adoption is not None:
            await asyncio.wait({self.adoption}, timeout=timeout_seconds)
        return await reach_guest(self.record, self.monitor, timeout_seconds)

    async def open_console(self) -> socket.socket:
        return await open_console(self.record, self.monitor)

    # What its monitor tells

    def follow(self, record: VmRecord, machine: Machine) -> None:
        """From now on what happens to this process and its agent is written down."""

        def answer_secret(port: int) -> bytes | None:
            return self._domain.secrets.answer(record.definition.secrets, port)

        self._followed_at = asyncio.get_running_loop().time()
        self.monitor = outside_of_requests(
            VmMonitor, record, machine, self.log, answer_secret,
            on_agent=self._note_agent, on_state=self._note_state, on_end=self._note_end,
            beside=partial(serve_folders, record, machine, self.files.folder) if record.definition.mounts else None,
        )  # fmt: skip
        if record.has_own_system and record.state is VmState.STARTING:
            self.note_running()

    def _note_agent(self, agent: AgentFacts) -> None:
        self.tell("agent", self._registry.update(self.record, agent=agent), connected=agent.connected)

    def _note_state(self, state: AgentState) -> None:
        before = self.record
        record = self._registry.update(before, guest=state, exit_code=state.result)
        # A workload that is broken leaves the VM up: it runs, and health says what is wrong.
        # One whose command has ended before anybody looked has a result, and has run.
        has_run = state.phase in ("running", "failed") or state.result is not None
        if record.state is VmState.STARTING and has_run:
            record = self.note_running()
        known = before.guest and (before.guest.health, before.guest.health_reason)
        if known != (state.health, state.health_reason):
            self.tell("health", record, health=state.health, health_reason=state.health_reason)

    def note_running(self) -> VmRecord:
        definition = self.record.definition.model_copy(update={"cold": False})
        return self.move("start", VmState.RUNNING, definition=definition)

    async def _note_end(self, end: MachineEnd) -> None:
        """The process is gone: why, and what that means for the VM. Called again where it could not be written."""
        assert self.monitor is not None
        record = self.record
        if record.state is VmState.SUSPENDED:
            await self.take_down(record, keeps_ports=True)
            agent = record.agent.model_copy(update={"connected": False})
            self._registry.update(record, process=None, agent=agent)
            self.monitor = None
            return
        await self.take_down(record)
        stopping = end.kind is EndKind.CRASHED and await asyncio.to_thread(is_host_stopping)
        reason, again = self.monitor.kill_reason, record.restarts + 1
        outcome = find_outcome(record.state, end, kill_reason=reason, is_host_stopping=stopping, again=again)
        is_stable = asyncio.get_running_loop().time() - self._followed_at >= STABLE_SECONDS
        restarts = find_restarts(record, outcome, is_stable=is_stable)
        # Before it is started again: a daemon that is killed in between leaves that to the next one.
        wanted = True if outcome.starts_again or restarts is not None else outcome.wanted
        if outcome.state is VmState.FAILED:
            self.fail(outcome.reason, wanted=restarts is not None, crash=end.cause)
        else:
            self.move(
                "stop", outcome.state, outcome.reason, process=None,
                wanted=record.wanted if wanted is None else wanted,
                agent=record.agent.model_copy(update={"connected": False}),
            )  # fmt: skip
        self.monitor = None
        if outcome.starts_again:
            self._background.run(self.start_again(outcome.restarts), f"restart of {record.name}")
        elif restarts is not None:
            delay_seconds = find_delay_seconds(restarts)
            self._background.run(self.start_again(restarts + 1, delay_seconds), f"restart of {record.name}")

    async def start_again(self, restarts: int = 0, delay_seconds: float = 0.0) -> None:
        """Start it without anybody asking, unless somebody has started, stopped or deleted it meanwhile."""
        await asyncio.sleep(delay_seconds)
        try:
            async with self.lock:
                record = self.record
                if record.state in (VmState.STOPPED, VmState.FAILED) and (record.wanted or not restarts):
                    await self.start(restarts=restarts, cold=record.definition.cold)
        except NotFound:
            pass
        except VolantError as error:
            logger.warning("VM %s: cannot start it again: %s", self.id, error)

    def fail(self, reason: str, *, wanted: bool = False, crash: CrashCause | None = None) -> None:
        record = self.record
        if record.state is VmState.FAILED:
            return
        self.move(
            "run", VmState.FAILED, reason, process=None, wanted=wanted, crash=crash,
            last_lines=read_last_lines(self.files.console_log, CONSOLE_TAIL_LINES),
            agent=record.agent.model_copy(update={"connected": False}),
        )  # fmt: skip

    def tell(self, kind: str, record: VmRecord, **data: object) -> None:
        """One event of this VM."""
        logger.info("VM %s: %s %s %s", record.name, kind, record.state.value, record.reason)
        try:
            self._domain.events.add(kind, record.name, **{**record.as_event(), **data})
            self._domain.boots.note(record, kind, data)
        except StorageFull as error:
            # What happened has happened, and its row says so.
            logger.warning("VM %s: an event is lost: %s", record.name, error.what)

    # What it has on the host

    async def wake(self) -> None:
        """Return once its ports can be connected to: where it sleeps it is woken, once for all who wait."""
        if self.record.state is VmState.RUNNING and not self.lock.locked():
            return
        async with self.lock:
            if self.record.state is VmState.SUSPENDED:
                await self.start()
        if self.record.state is VmState.STARTING:
            await wait_for(self._registry, self._domain.events, self.id, "healthy", BOOT_SECONDS)

    def is_used_since(self, moment: float) -> bool:
        """By the event loop's clock."""
        return self.use.is_since(moment) or max(self._followed_at, self.ports.active_at) >= moment

    async def take_down(self, record: VmRecord, *, keeps_ports: bool = False) -> None:
        """Take away what only a running VM needs from the network. `keeps_ports`: it sleeps, and can be woken there."""
        if not (keeps_ports and sleeps_when_idle(record) and SLEEP not in record.pending):
            await self.ports.close()
        try:
            await detach(record)
        except VolantError as error:
            logger.warning("VM %s leaves a network device: %s", record.name, error)

    def write_file(self, record: VmRecord) -> None:
        """Describe it in its folder, which may be all that is left one day."""
        write_vm_file(self.files.folder, record, self._domain.plugins.export_row(record.plugin_reference))

    async def save_file(self, record: VmRecord) -> None:
        """`write_file` that holds nobody up: a disk takes its time until it has the file for good."""
        row = self._domain.plugins.export_row(record.plugin_reference)
        await finish_in_thread(partial(write_vm_file, self.files.folder, record, row))

    async def remove_files(self) -> None:
        for folder in {self.files.folder, self.files.sockets}:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def release(self) -> None:
        """The daemon ends; the VM runs on."""
        if self.monitor is not None:
            await self.monitor.release()
        await self.ports.release()
