# SPDX-License-Identifier: Apache-2.0
"""QEMU as a hypervisor: starting it, adopting it, and telling why it ended.

The process is watched by pidfd; QMP (https://www.qemu.org/docs/master/interop/qmp-spec.html) adds what only
QEMU knows: whether the guest switched itself off or asked for a reset, and that a write found the host's disk
full. QMP serves one client, which is this daemon; the VM does not need it, so a lost connection is made again
and no more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate

from volant.contract.agents import Architecture
from volant.errors import Conflict, ToolFailed, VolantError
from volant.forked_programs import start_forked
from volant.process import find_tool, require_tool
from volant.volantd.hypervisors import confine
from volant.volantd.hypervisors.accelerator import AcceleratorProbe
from volant.volantd.hypervisors.base import (
    Capabilities,
    CauseKind,
    HostSupport,
    HypervisorKind,
    MachineEnd,
    MachineState,
    MemoryImage,
    ProcessIdentity,
    VmSpec,
)
from volant.volantd.hypervisors.confinement import find_confinement, make_confined_arguments
from volant.volantd.hypervisors.console import read_last_lines, trim_log
from volant.volantd.hypervisors.crash import MemoryWatch
from volant.volantd.hypervisors.groups import enter_group, make_group, was_killed_for_memory
from volant.volantd.hypervisors.host_process import ExitStatus, HostProcess, find_process, take_child
from volant.volantd.hypervisors.nested import check_nested
from volant.volantd.hypervisors.qemu_arguments import make_qemu_arguments, name_sockets
from volant.volantd.hypervisors.qemu_disks import (
    begin_merge,
    copy_disk,
    find_node,
    finish_merge,
    layer_disk,
    limit_disks,
    stop_merging,
)
from volant.volantd.hypervisors.qemu_ending import explain_end
from volant.volantd.hypervisors.qemu_memory import lend_memory, load_memory, save_memory
from volant.volantd.hypervisors.qemu_traits import find_traits
from volant.volantd.hypervisors.streams import connect_unix
from volant.volantd.tasks import end_tasks

logger = logging.getLogger(__name__)

PROGRAMS: dict[Architecture, tuple[str, str]] = {
    "amd64": ("qemu-system-x86_64", "qemu-system-x86"),
    "arm64": ("qemu-system-aarch64", "qemu-system-arm"),
}
START_TIMEOUT_SECONDS = 60.0
ADOPT_TIMEOUT_SECONDS = 5.0
QMP_TIMEOUT_SECONDS = 10.0
CHORES_INTERVAL_SECONDS = 5.0


class QemuMachine:
    """One QEMU process, ours or adopted."""

    def __init__(self, spec: VmSpec, process: HostProcess, console_begin: int = 0) -> None:
        """`console_begin`: how long the console's log was before this process wrote to it."""
        self.spec = spec
        self._sockets = name_sockets(spec.socket_folder)
        self._process = process
        self._qmp: QMPClient | None = None
        self._events = EventListener()
        self._shutdown_reason = ""
        self._asked_to_end = False
        self._disk_full = False
        self._paused = False
        self._resumed = asyncio.Event()
        self._disks = asyncio.Lock()
        self._problem = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._console_begin = console_begin
        self._memory = MemoryWatch()
        self._watch = asyncio.create_task(self._wait_for_end())

    @property
    def identity(self) -> ProcessIdentity:
        return self._process.identity

    @property
    def state(self) -> MachineState:
        if self._process.is_ended:
            return MachineState.ENDED
        return MachineState.PAUSED if self._paused else MachineState.RUNNING

    @property
    def problem(self) -> str:
        return self._problem

    async def wait(self) -> MachineEnd:
        return await asyncio.shield(self._watch)

    async def kill(self) -> MachineEnd:
        self._asked_to_end = True
        self._process.kill()
        return await self.wait()

    async def open_control(self) -> socket.socket:
        return await connect_unix(self._sockets.control)

    async def open_console(self) -> socket.socket:
        return await connect_unix(self._sockets.console)

    def listen_for_guest(self, port: int) -> socket.socket | None:
        return None

    async def press_power_button(self) -> None:
        await self._execute("system_powerdown")

    async def pause(self) -> None:
        if self.state is not MachineState.RUNNING:
            raise Conflict(f"cannot pause {self.spec.name}: it is {self.state.value}")
        await self._execute("stop")
        self._paused = True

    async def resume(self) -> None:
        if self.state is not MachineState.PAUSED:
            raise Conflict(f"cannot resume {self.spec.name}: it is {self.state.value}")
        await self._execute("cont")
        self._paused, self._problem = False, ""

    async def save_memory(self, folder: Path) -> MemoryImage:
        if self.state is not MachineState.PAUSED:
            raise Conflict(f"cannot save the memory of {self.spec.name}: it is {self.state.value}")
        async with self._alone_with_disks("save the memory of") as client:
            return await save_memory(client, self.identity.pid, folder)

    async def layer_disk(self, index: int, overlay: Path, name: str) -> None:
        async with self._alone_with_disks("layer the disk of") as client:
            await layer_disk(client, await find_node(client, index), overlay, name)

    async def copy_disk(self, index: int, target: Path, begun: Callable[[], Awaitable[None]]) -> None:
        async with self._alone_with_disks("copy the disk of") as client:
            await copy_disk(client, await find_node(client, index), target, begun)

    async def resize_disk(self, index: int, size_bytes: int) -> None:
        with self._reachable("resize the disk of") as client:
            node = await find_node(client, index)
            await client.execute("block_resize", {"node-name": node, "size": size_bytes})

    async def merge_layers(self, index: int, base: Path) -> bool:
        async with self._alone_with_disks("merge the layers of") as client:
            # QEMU lets go of the disks of a machine whose memory is saved, and ends where a job works on them then.
            if self.state is not MachineState.RUNNING:
                return False
            top = await find_node(client, index)
            await begin_merge(client, top, base)
        with self._reachable("merge the layers of") as client:
            return await finish_merge(client, top)

    @asynccontextmanager
    async def _alone_with_disks(self, verb: str) -> AsyncIterator[QMPClient]:
        """Nothing else is done to them meanwhile; layers that are being merged are left for later."""
        async with self._disks:
            with self._reachable(verb) as client:
                await stop_merging(client)
                yield client

    async def find_layer(self, index: int) -> str:
        with self._reachable("ask for the disk of") as client:
            return await find_node(client, index)

    async def wake(self, image: MemoryImage) -> None:
        """Take the state of an image; the machine is paused then."""
        with self._reachable("wake") as client:
            await load_memory(client, image)
        self._paused = True

    @contextmanager
    def _reachable(self, verb: str) -> Iterator[QMPClient]:
        """The connection to QEMU; its failures become ours."""
        if self._qmp is None:
            raise ToolFailed(f"cannot {verb} {self.spec.name}: there is no connection to its QEMU")
        try:
            yield self._qmp
        except (QMPError, OSError, EOFError) as error:
            raise ToolFailed(f"cannot {verb} {self.spec.name}: {error}") from error

    async def wait_resumed(self) -> None:
        await self._resumed.wait()
        self._resumed.clear()

    async def release(self) -> None:
        await end_tasks((self._watch, *self._tasks))
        await self._disconnect()
        self._process.close()

    async def connect(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Open QMP and keep watch. ToolFailed where the process ends first, Conflict where a port was
        taken."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not await self._try_connect(min(QMP_TIMEOUT_SECONDS, timeout_seconds)):
            if self._process.is_ended:
                raise self._explain_start(await self._process.wait())
            if asyncio.get_running_loop().time() >= deadline:
                raise ToolFailed(
                    f"cannot start {self.spec.name}: QEMU did not answer within {timeout_seconds:g} s",
                    details=_read_tail(self.spec.hypervisor_log),
                )
            await asyncio.sleep(0.01)
        self.keep_watch()

    def keep_watch(self) -> None:
        """Follow events and do what is due from time to time; QMP is connected again where it is lost."""
        self._tasks = [asyncio.create_task(self._follow_events()), asyncio.create_task(self._do_chores())]

    async def _try_connect(self, timeout_seconds: float = QMP_TIMEOUT_SECONDS) -> bool:
        if not self._sockets.qmp.exists():
            return False
        client = QMPClient(self.spec.name)
        client.logger = logging.getLogger("volant.qmp")
        self._events = EventListener()
        client.register_listener(self._events)
        try:
            # A QEMU that is stopped, or busy with another client, accepts and then says nothing.
            async with asyncio.timeout(timeout_seconds):
                await client.connect(str(self._sockets.qmp))
                status = await client.execute("query-status")
        except (QMPError, OSError, EOFError):
            with suppress(QMPError, OSError, EOFError):
                await client.disconnect()
            return False
        self._qmp = client
        self._paused = isinstance(status, dict) and not status.get("running", True)
        return True

    async def _disconnect(self) -> None:
        client, self._qmp = self._qmp, None
        if client is not None:
            with suppress(QMPError, OSError, EOFError):
                await client.disconnect()

    async def _execute(self, command: str) -> object:
        with self._reachable(command) as client:
            async with asyncio.timeout(QMP_TIMEOUT_SECONDS):
                return await client.execute(command)

    async def _follow_events(self) -> None:
        async for event in self._events:
            self._note_event(event)

    def _note_event(self, event: Mapping[str, Any]) -> None:
        name, data = event["event"], event.get("data", {})
        if name == "SHUTDOWN":
            self._shutdown_reason = str(data.get("reason", ""))
        elif name == "BLOCK_IO_ERROR" and data.get("nospace"):
            self._disk_full = True
            self._problem = f"paused: the host's disk is full ({self.spec.disks[0].path.parent})"
        elif name == "STOP":
            self._paused = True
        elif name == "RESUME":
            self._paused, self._problem, self._disk_full = False, "", False
            self._resumed.set()

    async def _do_chores(self) -> None:
        """Keep the console's log small, the QMP connection up, and try again where the disk was full."""
        while True:
            await asyncio.sleep(CHORES_INTERVAL_SECONDS)
            trim_log(self.spec.console_log)
            if self._qmp is None or self._qmp.runstate is not Runstate.RUNNING:
                await self._disconnect()
                if await self._try_connect():
                    self._tasks[0].cancel()
                    self._tasks[0] = asyncio.create_task(self._follow_events())
            if self._disk_full and self._paused:
                with suppress(ToolFailed):
                    await self._execute("cont")

    async def _wait_for_end(self) -> MachineEnd:
        status = await self._process.wait()
        is_killed = not self._asked_to_end and status.signal in (None, "SIGKILL") and not status.exit_code
        kill = self._memory.find_kill(self.identity.pid) if is_killed else None
        # The last event was sent before the process ended, but this side may not have read it yet.
        for _ in range(50):
            if self._qmp is None or self._qmp.runstate is not Runstate.RUNNING:
                break
            await asyncio.sleep(0.01)
        while not self._events.empty():
            self._note_event(await self._events.get())
        await end_tasks(self._tasks)
        await self._disconnect()
        for path in self._sockets.all:
            path.unlink(missing_ok=True)
        return explain_end(
            status,
            shutdown_reason=self._shutdown_reason,
            asked_to_end=self._asked_to_end,
            disk_full=self._disk_full,
            memory_full=kill is CauseKind.MEMORY_LIMIT or was_killed_for_memory(self.spec.id),
            killed_for_memory=kill is not None,
            console=read_last_lines(self.spec.console_log, 50, since=self._console_begin),
            log=_read_tail(self.spec.hypervisor_log),
        )

    def _explain_start(self, status: ExitStatus) -> VolantError:
        log = _read_tail(self.spec.hypervisor_log)
        forward = next((line for line in log if "Could not set up host forwarding rule" in line), None)
        if forward is not None:
            rule = re.search(r"'(tcp|udp):([^']*)-", forward)
            where = rule.group(2) if rule else "one of its ports"
            return Conflict(
                f"cannot start {self.spec.name}: {where} cannot be bound, another program has it",
                resolution=f"see which one: ss -ltnp | grep {where}",
            )
        ended = status.signal or f"exit code {status.exit_code}"
        return ToolFailed(f"cannot start {self.spec.name}: QEMU ended with {ended}", details=log)


def _read_tail(log: Path, count: int = 20) -> list[str]:
    return read_last_lines(log, count)


class Qemu:
    """The hypervisor QEMU on this host. `cache`: a folder for what was found out about the host; `state_dir`: what
    VMs see nothing of but their own."""

    kind: HypervisorKind = "qemu"
    capabilities = Capabilities(
        firmware=True,
        power_button=True,
        pause=True,
        snapshot=True,
        restore=True,
        user_network=True,
        templates=True,
        emulation=True,
        live_layers=True,
        knows_secret_users=True,
        disk_limits=True,
    )

    def __init__(
        self,
        cache: Path,
        *,
        state_dir: Path | None = None,
        wanted_accelerator: Literal["auto", "kvm", "tcg"] = "auto",
    ) -> None:
        self._state_dir = state_dir
        self._probe = AcceleratorProbe(cache, wanted_accelerator)

    def is_installed(self, architecture: Architecture) -> bool:
        return find_tool(PROGRAMS[architecture][0]) is not None

    async def find_support(
        self, architecture: Architecture, *, kernel: Path | None, firmware: bool = False
    ) -> HostSupport:
        name, package = PROGRAMS[architecture]
        program = require_tool(name, package=package)
        return await asyncio.to_thread(
            self._probe.find_support, program, architecture, kernel=kernel, firmware=firmware
        )

    def find_traits(self, spec: VmSpec) -> dict[str, str]:
        return find_traits(spec)

    async def start(self, spec: VmSpec) -> QemuMachine:
        check_nested(spec)
        name, package = PROGRAMS[spec.architecture]
        arguments = make_qemu_arguments(spec, require_tool(name, package=package))
        for stale in name_sockets(spec.socket_folder).all:
            stale.unlink(missing_ok=True)
        spec.hypervisor_log.unlink(missing_ok=True)
        # QEMU would make it readable for all.
        os.close(os.open(spec.console_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        console_begin = spec.console_log.stat().st_size
        confinement = await asyncio.to_thread(find_confinement)
        group = await asyncio.to_thread(make_group, spec)
        confined = make_confined_arguments(spec, arguments, self._state_dir, confinement, group)
        with lend_memory(spec) as (descriptors, fill):
            pid = start_forked(confine.__file__, confined, spec.hypervisor_log, descriptors=descriptors)
            machine = QemuMachine(spec, take_child(pid), console_begin)
            try:
                await asyncio.gather(
                    machine.connect(), asyncio.to_thread(fill), asyncio.to_thread(enter_group, spec, pid)
                )
                with machine._reachable("bound the disks of") as client:
                    await limit_disks(client, spec.disk_bytes_per_second)
                if spec.wakes_from is not None:
                    await machine.wake(spec.wakes_from)
            except BaseException:
                if machine.state is not MachineState.ENDED:
                    await machine.kill()
                raise
        return machine

    def find_process(self, spec: VmSpec) -> ProcessIdentity | None:
        return find_process(os.fsencode(name_sockets(spec.socket_folder).qmp))

    async def adopt(self, identity: ProcessIdentity, spec: VmSpec) -> QemuMachine | None:
        process = HostProcess.open(identity)
        if process is None:
            return None
        machine = QemuMachine(spec, process)
        try:
            await machine.connect(ADOPT_TIMEOUT_SECONDS)
        except VolantError as error:
            # It runs but does not answer yet: still ours to watch and to kill, never to end for that.
            logger.warning("adopted %s without QMP: %s", spec.name, error.what)
            machine.keep_watch()
        return machine
