# SPDX-License-Identifier: Apache-2.0
"""All VMs of this daemon: what people ask of them, one thing at a time per VM, and their adoption at start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets as random
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from volant.contract.agent import AgentState
from volant.contract.api import AgentInfo, Vm, VmCreate
from volant.contract.manifest import NAME_PATTERN
from volant.errors import InvalidInput, StorageFull, Unreachable, VolantError, WrongState
from volant.volantd.clock import now
from volant.volantd.host_state import is_host_stopping
from volant.volantd.hypervisors.base import EndKind, Machine, MachineEnd, VmSpec
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.hypervisors.host_process import read_boot_id
from volant.volantd.network.forward import PortForwarder
from volant.volantd.vms.definition import choose_plugin, make_definition
from volant.volantd.vms.describe import describe_vm
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.keys import make_private_key
from volant.volantd.vms.lifecycle import (
    VmFiles,
    boot_vm,
    find_files,
    find_guest_kernel,
    find_lost_process,
)
from volant.volantd.vms.monitor import Guest, VmMonitor
from volant.volantd.vms.networking import (
    choose_place,
    detach,
    list_guest_ports,
    start_forwarding,
)
from volant.volantd.vms.process_log import ProcessLog
from volant.volantd.vms.recovery import set_aside_unknown
from volant.volantd.vms.registry import VmRecord, name_taken
from volant.volantd.vms.states import WITH_PROCESS, VmState
from volant.volantd.vms.vm_file import NAME as VM_FILE
from volant.volantd.vms.vm_file import write_vm_file

logger = logging.getLogger(__name__)

CONSOLE_TAIL_LINES = 20
# How long an orderly stop may take beyond what the processes were given, before the process is killed.
POWER_OFF_SECONDS = 10.0
AGENT_WAIT_SECONDS = 5.0
# How long the daemon's start waits for VMs to be found again before it serves without them.
HEAD_START_SECONDS = 1.0
# The least that an agent on a busy host is given to say that it begins to stop.
ANSWER_SECONDS = 1.0
# How long a full disk may keep the end of a process from being written before whoever asked is told.
WRITE_SECONDS = 10.0


class Fleet:
    def __init__(self, domain: Domain, *, restores: bool = True) -> None:
        """`restores`: VMs that should run and do not are started again; not while the host goes down."""
        self._domain = domain
        self._restores = restores
        self._registry = domain.registry
        self._monitors: dict[str, VmMonitor] = {}
        self._logs: dict[str, ProcessLog] = {}
        self._forwarders: dict[str, PortForwarder] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._adopting: dict[str, asyncio.Task[None]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # What people ask for

    async def create(self, request: VmCreate) -> VmRecord:
        """A VM in state created, and then starting where the request says so (`start`)."""
        if not re.fullmatch(NAME_PATTERN, request.name):
            raise InvalidInput(
                f"cannot create VM {request.name!r}: a name has lower-case letters, digits, '-' and '_',"
                " begins with a letter or digit and has at most 63 of them"
            )
        if any(record.name == request.name for record in self._registry.list_all()):
            raise name_taken(request.name)
        plugin = choose_plugin(self._domain, request)
        definition = make_definition(self._domain, request, plugin.manifest)
        if plugin.boot == "kernel":
            await asyncio.to_thread(find_guest_kernel, self._domain.settings)
        taken = {record.address for record in self._registry.list_all() if record.address}
        address, ports = choose_place(
            request, definition.network, list_guest_ports(plugin), taken, self._domain.settings
        )
        record = self._registry.add(
            name=request.name,
            plugin=(plugin.manifest.name, plugin.manifest.version),
            definition=definition,
            address=address,
            # 52:54:00 is the locally administered prefix that QEMU uses.
            mac="52:54:00:" + ":".join(f"{byte:02x}" for byte in random.token_bytes(3)),
            ports=ports,
            control_key=make_private_key(),
            host_key=make_private_key(),
        )
        self._tell("created", record)
        try:
            self._write_file(record)
            return await self.start(record.name) if request.start else record
        except BaseException:
            # Nobody asked for a VM that cannot be started: creating is all or nothing.
            await asyncio.shield(self.delete(record.id, force=True))
            raise

    async def start(self, name: str) -> VmRecord:
        """Start a VM that does not run; returns while it boots. Failed to start: an error, and state failed."""
        async with self._locked(name) as record:
            record = self._registry.move(
                record, "start", VmState.STARTING, wanted=True, process=None, machine=None, guest=None, last_lines=[],
                exit_code=None, started_at=now(),
            )  # fmt: skip
            self._tell("state", record)
            machine: Machine | None = None
            try:
                plugin = self._domain.plugins.load(record.plugin_reference)

                def remember(spec: VmSpec) -> None:
                    self._write_file(self._registry.update(record, machine=spec))

                await self._forward(record)
                machine = await boot_vm(
                    record, plugin, self._domain.hypervisor, self._domain.settings, remember
                )
                record = self._registry.update(record, process=machine.identity)
            except BaseException as error:
                if machine is not None:
                    await asyncio.shield(machine.kill())
                await asyncio.shield(self._take_down(record))
                reason = error.what if isinstance(error, VolantError) else "the start was interrupted"
                self._fail(record, reason)
                raise
            self._watch(record, machine)
            return record

    async def stop(self, name: str, *, timeout_seconds: float = 30.0, force: bool = False) -> VmRecord:
        """Stop a VM: in order through its agent, by force when that takes too long or is asked for."""
        async with self._locked(name) as record:
            if record.state not in WITH_PROCESS:
                raise WrongState(f"cannot stop VM {record.name}: it is {record.state.value}")
            return await self._stop(record, timeout_seconds, force)

    async def _stop(self, record: VmRecord, timeout_seconds: float, force: bool) -> VmRecord:
        if record.state is not VmState.STOPPING:
            try:
                record = self._registry.move(record, "stop", VmState.STOPPING, wanted=False)
                self._tell("state", record)
            except StorageFull as error:
                # Ending it may be what makes room; its end is written as soon as there is some.
                logger.warning("VM %s: %s; it is stopped all the same", record.name, error.what)
        monitor = self._monitors.get(record.id)
        if monitor is None:
            await self._take_down(record)
            return self._registry.move(record, "stop", VmState.STOPPED, process=None)
        if not force:
            monitor.kill_reason = await self._ask_to_stop(record, monitor, timeout_seconds)
        await monitor.machine.kill()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await monitor.wait_ended()
        except TimeoutError:
            raise StorageFull(
                f"cannot write that VM {record.name} has stopped: it has, and it is written once there is room",
                resolution="free some space in the state folder",
            ) from None
        return self._registry.get(record.id)

    async def _ask_to_stop(self, record: VmRecord, monitor: VmMonitor, timeout_seconds: float) -> str:
        """Let the guest end by itself; returns why it has to be killed, or nothing where it has ended."""
        if record.spec is not None and record.spec.kernel is None:
            return await press_power_button(monitor, timeout_seconds)
        return await ask_agent_to_stop(monitor, timeout_seconds)

    async def restart(self, name: str, *, timeout_seconds: float = 30.0) -> VmRecord:
        record = self._registry.get(name)
        if record.state in WITH_PROCESS:
            await self.stop(name, timeout_seconds=timeout_seconds)
        return await self.start(name)

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a VM with its disk; one that runs is stopped first, at once with `force`."""
        async with self._locked(name) as record:
            if record.state in WITH_PROCESS:
                with contextlib.suppress(StorageFull):
                    record = await self._stop(record, 10.0, force)
            try:
                self._registry.update(record, deleting=True)
            except StorageFull:
                # Its disk goes for good in any case, and makes the room that is missing.
                await self._remove_files(record)
                self._registry.update(record, deleting=True)
            await self._finish_delete(record)
        self._locks.pop(record.id, None)

    def _write_file(self, record: VmRecord) -> None:
        write_vm_file(
            find_files(self._domain.settings, record.id).folder,
            record,
            self._domain.plugins.export_row(record.plugin_reference),
        )

    async def _remove_files(self, record: VmRecord) -> None:
        files = find_files(self._domain.settings, record.id)
        for folder in {files.folder, files.sockets}:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _finish_delete(self, record: VmRecord) -> None:
        await self._remove_files(record)
        self._logs.pop(record.id, None)
        self._registry.remove(record)
        self._tell("deleted", record)

    # What people look at

    def get(self, name: str) -> VmRecord:
        return self._registry.get(name)

    def list_all(self) -> list[VmRecord]:
        return self._registry.list_all()

    def find_names(self) -> dict[str, str]:
        """Addresses of the bridged VMs by name."""
        return {
            record.name: record.address
            for record in self._registry.list_all()
            if record.definition.network == "bridged" and record.address
        }

    def find_files(self, record: VmRecord) -> VmFiles:
        return find_files(self._domain.settings, record.id)

    def find_log(self, record: VmRecord) -> ProcessLog:
        if record.id not in self._logs:
            path = find_files(self._domain.settings, record.id).process_log
            self._logs[record.id] = ProcessLog(path, self._domain.settings.log_limit_bytes)
        return self._logs[record.id]

    async def connect(self, name: str, timeout_seconds: float = AGENT_WAIT_SECONDS) -> Guest:
        """The agent's connection of a VM that runs; WrongState or Unreachable otherwise."""
        record = self._registry.get(name)
        if record.id in self._adopting:
            await asyncio.wait({self._adopting[record.id]}, timeout=timeout_seconds)
            record = self._registry.get(record.id)
        monitor = self._monitors.get(record.id)
        if monitor is None or record.state not in WITH_PROCESS:
            raise WrongState(
                f"cannot reach into VM {record.name}: it is {record.state.value}",
                resolution=f"start it first: volar vms start {record.name}",
            )
        if record.spec is not None and record.spec.kernel is None:
            raise Unreachable(
                f"cannot reach into VM {record.name}: it boots its own system, in which no agent answers",
                resolution="reach it over the network",
            )
        guest = await monitor.wait_connected(timeout_seconds)
        if guest is None:
            raise Unreachable(
                f"cannot reach into VM {record.name}: its agent does not answer",
                resolution=f"see what the console says: volar vms logs {record.name} --console",
            )
        return guest

    def describe(self, record: VmRecord) -> Vm:
        monitor = self._monitors.get(record.id)
        return describe_vm(self._domain, record, monitor.machine.problem if monitor else "")

    # What monitors tell

    def _watch(self, record: VmRecord, machine: Machine) -> None:
        def on_agent(agent: AgentInfo) -> None:
            self._registry.update(record, agent=agent)
            self._tell("agent", self._registry.get(record.id), connected=agent.connected)

        def on_state(state: AgentState) -> None:
            self._learn_state(record.id, state)

        async def on_end(end: MachineEnd) -> None:
            await self._take_down(record)
            kill_reason = self._monitors[record.id].kill_reason
            self._write_end(self._registry.get(record.id), end, kill_reason)
            self._monitors.pop(record.id, None)

        def answer_secret(port: int) -> bytes | None:
            return self._domain.secrets.answer(record.definition.secrets, port)

        self._monitors[record.id] = VmMonitor(
            record,
            machine,
            self.find_log(record),
            answer_secret,
            on_agent=on_agent,
            on_state=on_state,
            on_end=on_end,
        )
        if record.spec is not None and record.spec.kernel is None and record.state is VmState.STARTING:
            self._tell("state", self._registry.move(record, "start", VmState.RUNNING))

    def _learn_state(self, vm_id: str, state: AgentState) -> None:
        record = self._registry.get(vm_id)
        before = record.guest
        record = self._registry.update(record, guest=state, exit_code=state.result)
        # A workload that is broken leaves the VM up: it runs, and health says what is wrong.
        if record.state is VmState.STARTING and state.phase in ("running", "failed"):
            record = self._registry.move(record, "start", VmState.RUNNING)
            self._tell("state", record)
        if before is None or (before.health, before.health_reason) != (state.health, state.health_reason):
            self._tell("health", record, health=state.health, health_reason=state.health_reason)

    def _write_end(self, record: VmRecord, end: MachineEnd, kill_reason: str) -> None:
        """The process is gone: why, and what that means for the VM."""
        if end.kind is EndKind.CRASHED and is_host_stopping():
            # It runs again with the host: it is still wanted.
            record = self._registry.move(
                record, "stop", VmState.STOPPED, "the host was shut down", process=None,
                agent=record.agent.model_copy(update={"connected": False}),
            )  # fmt: skip
            self._tell("state", record)
            return
        stopped = record.state is VmState.STOPPING or end.kind is EndKind.KILLED
        rebooted = end.kind is EndKind.REBOOTED and not stopped
        by_itself = end.kind in (EndKind.POWERED_OFF, EndKind.REBOOTED) and record.state is VmState.RUNNING
        if stopped or by_itself:
            killed = end.kind is EndKind.KILLED and kill_reason
            reason = kill_reason if killed else "" if stopped else "the guest switched itself off"
            record = self._registry.move(
                record, "stop", VmState.STOPPED, reason, process=None, wanted=False,
                agent=record.agent.model_copy(update={"connected": False}),
            )  # fmt: skip
            self._tell("state", record)
            if rebooted:
                # A hypervisor that resets in place would boot without this start's guest.json and initrd.
                self._run_later(self._start_again(record))
        else:
            reason = end.reason or "the guest switched itself off before its workload ran"
            if end.host_disk_full:
                reason = f"the host's disk is full: {reason}"
            self._fail(record, reason)

    async def _forward(self, record: VmRecord) -> None:
        forwarder = await start_forwarding(record)
        if forwarder is not None:
            self._forwarders[record.id] = forwarder

    async def _take_down(self, record: VmRecord) -> None:
        """Take away what only a running VM needs from the network."""
        forwarder = self._forwarders.pop(record.id, None)
        if forwarder is not None:
            await forwarder.close()
        try:
            await detach(record)
        except VolantError as error:
            logger.warning("VM %s leaves a network device: %s", record.name, error)

    async def _stop_again(self, record: VmRecord) -> None:
        try:
            await self.stop(record.id)
        except VolantError as error:
            logger.warning("cannot finish stopping VM %s: %s", record.name, error)

    async def _start_again(self, record: VmRecord) -> None:
        if not self._restores:
            return
        try:
            await self.start(record.id)
        except VolantError as error:
            logger.warning("cannot start VM %s again: %s", record.name, error)

    def _fail(self, record: VmRecord, reason: str) -> VmRecord:
        lines = read_last_lines(find_files(self._domain.settings, record.id).console_log, CONSOLE_TAIL_LINES)
        record = self._registry.get(record.id)
        if record.state is VmState.FAILED:
            return record
        record = self._registry.move(
            record, "run", VmState.FAILED, reason, last_lines=lines, process=None, wanted=False,
            agent=record.agent.model_copy(update={"connected": False}),
        )  # fmt: skip
        self._tell("state", record)
        return record

    def _tell(self, kind: str, record: VmRecord, **data: object) -> None:
        logger.info("VM %s: %s %s %s", record.name, kind, record.state.value, record.reason)
        try:
            self._domain.events.add(
                kind, record.name, id=record.id, status=record.state.value, reason=record.reason, **data
            )
        except StorageFull as error:
            # What happened has happened, and its row says so.
            logger.warning("VM %s: an event is lost: %s", record.name, error.what)

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[VmRecord]:
        """The VM as it is once everything else that people asked of it has been done."""
        record = self._registry.get(name)
        async with self._locks[record.id]:
            yield self._registry.get(record.id)

    # The daemon's start and end

    async def adopt_all(self, head_start_seconds: float = HEAD_START_SECONDS) -> None:
        """Find again what ran, finish what was interrupted, start what ran before the host was rebooted.

        All VMs at once, each under its lock. Returns when that is done or after the head start: one that does not
        answer keeps nobody from the others.
        """
        boot_id = read_boot_id()
        set_aside_unknown(self._domain)
        for record in self._registry.list_all():
            if not (self.find_files(record).folder / VM_FILE).exists() and not record.deleting:
                self._write_file(record)
            if record.deleting or record.wanted or record.state in WITH_PROCESS:
                # Free as yet, so this does not wait: what people ask for comes after the adoption.
                await self._locks[record.id].acquire()
                task = asyncio.create_task(self._settle(record, boot_id), name=f"adoption of {record.name}")
                self._adopting[record.id] = task
        if self._adopting:
            await asyncio.wait(list(self._adopting.values()), timeout=head_start_seconds)

    async def _settle(self, record: VmRecord, boot_id: str) -> None:
        """One VM, whose lock is held: as it should be after the daemon's start."""
        try:
            if record.deleting:
                await self._take_down(record)
                await self._finish_delete(record)
                return
            if record.state in WITH_PROCESS:
                await self._adopt(record, boot_id)
        except Exception:
            logger.exception("VM %s: cannot take it over", record.name)
        finally:
            self._locks[record.id].release()
            self._adopting.pop(record.id, None)
        if not record.deleting and record.id not in self._monitors:
            record = self._registry.get(record.id)
            if record.wanted and record.state is VmState.STOPPED:
                self._run_later(self._start_again(record))

    def _run_later(self, work: Coroutine[Any, Any, None]) -> None:
        """Beside the daemon's start, or after the end of a VM: nobody waits for it."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _adopt(self, record: VmRecord, boot_id: str) -> None:
        identity = record.process
        if identity is None and record.spec is not None:
            identity = await asyncio.to_thread(find_lost_process, record.spec)
        machine = None
        if identity is not None and record.spec is not None and identity.boot_id == boot_id:
            machine = await self._domain.hypervisor.adopt(identity, record.spec)
        if machine is not None:
            record = self._registry.update(record, process=machine.identity)
            try:
                await self._forward(record)
            except VolantError as error:
                logger.warning("VM %s: %s", record.name, error)
            self._watch(record, machine)
            self._tell("adopted", record)
            if record.state is VmState.STOPPING:
                self._run_later(self._stop_again(record))
            return
        await self._take_down(record)
        rebooted = identity is not None and identity.boot_id != boot_id
        if record.state is VmState.STOPPING:
            self._registry.move(record, "stop", VmState.STOPPED, process=None, wanted=False)
        elif rebooted or identity is None:
            again = record.wanted and (record.definition.restart == "always" or not rebooted)
            reason = "the host was restarted" if rebooted else "volantd ended while it was starting the VM"
            self._registry.move(record, "stop", VmState.STOPPED, reason, process=None, wanted=again)
        else:
            self._fail(record, "its hypervisor process ended while volantd was away")

    async def release_all(self) -> None:
        """The daemon ends; VMs run on."""
        unfinished = [*self._background, *self._adopting.values()]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await asyncio.gather(
            *(monitor.release() for monitor in list(self._monitors.values())), return_exceptions=True
        )
        for forwarder in self._forwarders.values():
            await forwarder.close()
        self._monitors.clear()


async def press_power_button(monitor: VmMonitor, timeout_seconds: float) -> str:
    """For a system of its own: its power button, as on a real machine. Why it has to be killed, or nothing."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await monitor.machine.press_power_button()
            await monitor.wait_ended()
    except VolantError as error:
        return f"killed: {error.what}"
    except TimeoutError:
        return f"killed: its system did not power off within {timeout_seconds:g} s of the power button"
    return ""


async def ask_agent_to_stop(monitor: VmMonitor, timeout_seconds: float) -> str:
    """Through the agent: processes end, file systems are closed. Why the VM has to be killed, or nothing."""
    patience = max(timeout_seconds, ANSWER_SECONDS)
    try:
        async with asyncio.timeout(patience):
            guest = await monitor.wait_connected(AGENT_WAIT_SECONDS)
            if guest is None:
                return "killed: its agent did not answer"
            await guest.control.stop("poweroff", timeout_seconds)
    except TimeoutError:
        return f"killed: its agent did not answer within {patience:g} s"
    except (VolantError, OSError) as error:
        return f"killed: {error}"
    try:
        async with asyncio.timeout(timeout_seconds + POWER_OFF_SECONDS):
            await monitor.wait_ended()
    except TimeoutError:
        return f"killed: it did not power off within {timeout_seconds + POWER_OFF_SECONDS:g} s"
    return ""
