# SPDX-License-Identifier: Apache-2.0
"""One QEMU process, ours or adopted. The process is watched by pidfd; QMP adds what only QEMU knows: whether the guest
switched itself off or asked for a reset, and that a write found the host's disk full."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient

from volant.errors import Conflict, ToolFailed, VolantError
from volant.volantd.hypervisors.base import MachineEnd, MachineState, MemoryImage, VmSpec
from volant.volantd.hypervisors.console import trim_log
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.host_process import ExitStatus, HostProcess
from volant.volantd.hypervisors.process_machine import ProcessMachine
from volant.volantd.hypervisors.qemu_arguments import name_sockets
from volant.volantd.hypervisors.qemu_control import TIMEOUT_SECONDS, QemuControl
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
from volant.volantd.hypervisors.qemu_memory import load_memory, save_memory
from volant.volantd.hypervisors.streams import connect_unix
from volant.volantd.tasks import end_tasks

START_TIMEOUT_SECONDS = 60.0
CHORES_INTERVAL_SECONDS = 5.0


class QemuMachine(ProcessMachine):
    def __init__(self, spec: VmSpec, process: HostProcess, console_begin: int = 0) -> None:
        super().__init__(spec, process, console_begin)
        self._sockets = name_sockets(spec.socket_folder)
        self.control = QemuControl(self._sockets.qmp, spec.name)
        self._shutdown_reason = ""
        self._disk_full = False
        self._disks = asyncio.Lock()
        self._problem = ""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def problem(self) -> str:
        return self._problem

    async def open_control(self) -> socket.socket:
        return await connect_unix(self._sockets.control)

    async def open_folders(self) -> socket.socket:
        return await connect_unix(self._sockets.folders)

    async def open_console(self) -> socket.socket:
        return await connect_unix(self._sockets.console)

    def listen_for_guest(self, port: int) -> socket.socket | None:
        return None

    async def press_power_button(self) -> None:
        await self.control.execute("system_powerdown")

    async def pause(self) -> None:
        self._require(MachineState.RUNNING, "pause")
        await self.control.execute("stop")
        self._paused = True

    async def resume(self) -> None:
        self._require(MachineState.PAUSED, "resume")
        await self.control.execute("cont")
        self._paused, self._problem = False, ""

    async def save_memory(self, folder: Path) -> MemoryImage:
        self._require(MachineState.PAUSED, "save the memory of")
        async with self._alone_with_disks("save the memory of") as client:
            return await save_memory(client, self.identity.pid, folder)

    async def layer_disk(self, index: int, overlay: Path, name: str) -> None:
        async with self._alone_with_disks("layer the disk of") as client:
            await layer_disk(client, await find_node(client, index), overlay, name)

    async def copy_disk(self, index: int, target: Path, begun: Callable[[], Awaitable[None]]) -> None:
        async with self._alone_with_disks("copy the disk of") as client:
            await copy_disk(client, await find_node(client, index), target, begun)

    async def resize_disk(self, index: int, size_bytes: int) -> None:
        with self.control.reached("resize the disk of") as client:
            node = await find_node(client, index)
            await client.execute("block_resize", {"node-name": node, "size": size_bytes})

    async def resize(self, spec: VmSpec) -> None:
        raise Conflict(f"cannot resize {self.spec.name}: QEMU's machines keep the CPUs and memory they have")

    async def merge_layers(self, index: int, base: Path) -> bool:
        async with self._alone_with_disks("merge the layers of") as client:
            # QEMU lets go of the disks of a machine whose memory is saved, and ends where a job works on them then.
            if self.state is not MachineState.RUNNING:
                return False
            top = await find_node(client, index)
            await begin_merge(client, top, base)
        with self.control.reached("merge the layers of") as client:
            return await finish_merge(client, top)

    @asynccontextmanager
    async def _alone_with_disks(self, verb: str) -> AsyncIterator[QMPClient]:
        """Nothing else is done to them meanwhile; layers that are being merged are left for later."""
        async with self._disks:
            with self.control.reached(verb) as client:
                await stop_merging(client)
                yield client

    async def find_layer(self, index: int) -> str:
        with self.control.reached("ask for the disk of") as client:
            return await find_node(client, index)

    async def limit_disks(self) -> None:
        with self.control.reached("bound the disks of") as client:
            await limit_disks(client, self.spec.disk_bytes_per_second)

    async def wake(self, image: MemoryImage) -> None:
        """Take the state of an image; the machine is paused then."""
        with self.control.reached("wake") as client:
            await load_memory(client, image)
        self._paused = True

    async def release(self) -> None:
        await end_tasks((self._watch, *self._tasks))
        await self.control.disconnect()
        self._process.close()

    async def connect(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Open QMP and keep watch. ToolFailed where the process ends first, Conflict where a port was
        taken."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not await self._try_connect(min(TIMEOUT_SECONDS, timeout_seconds)):
            if self._process.is_ended:
                raise self._explain_start(await self._process.wait())
            if asyncio.get_running_loop().time() >= deadline:
                raise ToolFailed(
                    f"cannot start {self.spec.name}: QEMU did not answer within {timeout_seconds:g} s",
                    details=self._read_log(),
                )
            await asyncio.sleep(0.01)
        self.keep_watch()

    def keep_watch(self) -> None:
        """Follow events and do what is due from time to time; QMP is connected again where it is lost."""
        self._tasks = [asyncio.create_task(self._follow_events()), asyncio.create_task(self._do_chores())]

    async def _try_connect(self, timeout_seconds: float = TIMEOUT_SECONDS) -> bool:
        status = await self.control.try_connect(timeout_seconds)
        if status is None:
            return False
        self._paused = not status.get("running", True)
        return True

    async def _follow_events(self) -> None:
        while True:
            self._note_event(await self.control.wait_event())

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
            if not self.control.is_connected:
                await self.control.disconnect()
                if await self._try_connect():
                    self._tasks[0].cancel()
                    self._tasks[0] = asyncio.create_task(self._follow_events())
            if self._disk_full and self._paused:
                with suppress(ToolFailed):
                    await self.control.execute("cont")

    async def _let_go(self) -> None:
        for event in await self.control.read_last_events():
            self._note_event(event)
        await end_tasks(self._tasks)
        await self.control.disconnect()

    def _explain(self, known: KnownEnd) -> MachineEnd:
        return explain_end(replace(known, disk_full=self._disk_full), self._shutdown_reason)

    def _remove_files(self) -> None:
        for path in self._sockets.all:
            path.unlink(missing_ok=True)

    def _explain_start(self, status: ExitStatus) -> VolantError:
        log = self._read_log()
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
