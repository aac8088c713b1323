# SPDX-License-Identifier: Apache-2.0
"""One Cloud Hypervisor process, ours or adopted. Its API tells and is told; nothing of it is kept open in between."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from volant.errors import Conflict, StorageFull, ToolFailed, Unreachable, VolantError
from volant.process import run_tool
from volant.volantd.hypervisors.base import MachineEnd, MachineState, MemoryImage, VmSpec
from volant.volantd.hypervisors.cloud_hypervisor.api import VmmApi
from volant.volantd.hypervisors.cloud_hypervisor.configuration import (
    VmmFiles,
    find_files,
    make_resize_request,
)
from volant.volantd.hypervisors.cloud_hypervisor.console import AttachedConsole, find_terminal
from volant.volantd.hypervisors.cloud_hypervisor.endings import REBOOTING, explain_end, read_events
from volant.volantd.hypervisors.cloud_hypervisor.memory import save_memory
from volant.volantd.hypervisors.cloud_hypervisor.vsock import listen_for_guest, open_guest_port
from volant.volantd.hypervisors.console import trim_log
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.host_process import HostProcess
from volant.volantd.hypervisors.process_machine import ProcessMachine
from volant.volantd.tasks import end_tasks

logger = logging.getLogger(__name__)

# The agent's port in every guest (contract.guest_config.Control.vsock_port).
AGENT_PORT = 1024
ANSWER_SECONDS = 30.0
WOKEN_ANSWER_SECONDS = (1.0, 2.0, 4.0, 8.0)
API_SECONDS = 10.0
WATCH_INTERVAL_SECONDS = 1.0


class CloudHypervisorMachine(ProcessMachine):
    def __init__(self, spec: VmSpec, process: HostProcess, console_begin: int = 0) -> None:
        super().__init__(spec, process, console_begin)
        self._files = find_files(spec)
        self.api = VmmApi(self._files.api, spec.name)
        self._chores = asyncio.create_task(self._do_chores())
        self._consoles = set[asyncio.Task[None]]()

    @property
    def problem(self) -> str:
        return ""

    async def look(self) -> None:
        """Whether it stands still, of a process that is adopted or has just woken. Unreachable, ToolFailed."""
        info = await self.api.get("vm.info", timeout_seconds=API_SECONDS)
        self._paused = info.get("state") == "Paused"

    async def wait_answering(self, timeout_seconds: float) -> None:
        """Until its API answers. ToolFailed where the process ends first or says nothing in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            try:
                await self.api.get("vmm.ping", timeout_seconds=API_SECONDS)
            except Unreachable:
                if self._process.is_ended:
                    status = await self._process.wait()
                    ended = status.signal or f"exit code {status.exit_code}"
                    raise self._refuse(f"Cloud Hypervisor ended with {ended}") from None
                if loop.time() >= deadline:
                    raise self._refuse(
                        f"Cloud Hypervisor did not answer within {timeout_seconds:g} s"
                    ) from None
                await asyncio.sleep(0.01)
            else:
                return

    def _refuse(self, reason: str) -> ToolFailed:
        return ToolFailed(f"cannot start {self.spec.name}: {reason}", details=self._read_log())

    async def open_control(self) -> socket.socket:
        """A machine that woke counts its ports from the beginning, and its guest may know one of them still: what is
        not answered soon is asked again with the next number."""
        patience = WOKEN_ANSWER_SECONDS if self.spec.wakes_from is not None else ()
        for seconds in patience:
            with suppress(Unreachable):
                return await open_guest_port(self._files.vsock, AGENT_PORT, seconds)
        return await open_guest_port(self._files.vsock, AGENT_PORT, ANSWER_SECONDS)

    async def open_folders(self) -> socket.socket:
        raise Unreachable(f"{self.spec.name} has no stream for folders of the host")

    async def open_console(self) -> socket.socket:
        terminal = find_terminal(self.identity.pid)
        try:
            if terminal is None:
                raise FileNotFoundError(errno.ENOENT, "it was started without one that takes typing")
            console = AttachedConsole(terminal, self.spec.console_log, lambda: self._process.is_ended)
        except OSError as error:
            raise Unreachable(
                f"cannot attach to the console of VM {self.spec.name}: {error.strerror}",
                resolution=f"read it: volar vms logs {self.spec.name} --console   (volar vms ssh gives a shell)",
            ) from error
        self._consoles.add(console.task)
        console.task.add_done_callback(self._consoles.discard)
        return console.stream

    def listen_for_guest(self, port: int) -> socket.socket | None:
        return listen_for_guest(self._files.find_answering(port), self._files.folder)

    async def press_power_button(self) -> None:
        await self.api.put("vm.power-button", timeout_seconds=API_SECONDS)

    async def pause(self) -> None:
        self._require(MachineState.RUNNING, "pause")
        await self.api.put("vm.pause", timeout_seconds=API_SECONDS)
        self._paused = True

    async def resume(self) -> None:
        self._require(MachineState.PAUSED, "resume")
        await self.api.put("vm.resume", timeout_seconds=API_SECONDS)
        self._paused = False
        self._resumed.set()

    async def save_memory(self, folder: Path) -> MemoryImage:
        self._require(MachineState.PAUSED, "save the memory of")
        return await save_memory(self.api, self._files, folder)

    async def layer_disk(self, index: int, overlay: Path, name: str) -> None:
        raise Conflict(f"cannot layer the disk of {self.spec.name}: Cloud Hypervisor keeps the disks it has")

    async def copy_disk(self, index: int, target: Path, begun: Callable[[], Awaitable[None]]) -> None:
        """It stands still meanwhile: what a machine that runs writes to its disk cannot be turned aside here."""
        is_ours = self.state is MachineState.RUNNING
        if is_ours:
            await self.pause()
        try:
            await asyncio.to_thread(copy_whole, self.spec.disks[index].path, target)
        finally:
            if is_ours:
                await asyncio.shield(self.resume())
        await begun()

    async def resize_disk(self, index: int, size_bytes: int) -> None:
        await self.api.put("vm.resize-disk", {"id": f"disk{index}", "desired_size": size_bytes})

    async def resize(self, spec: VmSpec) -> None:
        request = make_resize_request(self.spec, spec)
        await self.api.put("vm.resize", request, timeout_seconds=API_SECONDS)
        self.spec = spec

    async def merge_layers(self, index: int, base: Path) -> bool:
        raise Conflict(
            f"cannot merge the layers of {self.spec.name}: Cloud Hypervisor keeps the disks it has"
        )

    async def find_layer(self, index: int) -> str:
        return ""

    async def release(self) -> None:
        await end_tasks((self._watch, self._chores, *self._consoles))
        self._process.close()

    async def _do_chores(self) -> None:
        """Keep the console's log small, and end what boots again by itself: that is for whoever owns the VM."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
            trim_log(self.spec.console_log)
            if REBOOTING in read_events(self._files.events):
                self._process.kill()

    async def _let_go(self) -> None:
        await end_tasks((self._chores,))

    def _explain(self, known: KnownEnd) -> MachineEnd:
        return explain_end(known, read_events(self._files.events))

    def _remove_files(self) -> None:
        remove_files(self._files)


def copy_whole(disk: Path, target: Path) -> None:
    """Blocking. ToolFailed, StorageFull."""
    try:
        run_tool(["cp", "--reflink=auto", "--sparse=auto", str(disk), str(target)], what=f"copy {disk}")
    except ToolFailed as error:
        target.unlink(missing_ok=True)
        if any("No space left" in line for line in error.details):
            raise StorageFull(f"cannot copy {disk}: the host's disk is full") from error
        raise


def remove_files(files: VmmFiles) -> None:
    """What one process leaves behind, its own and ours for its guest."""
    for path in files.folder.iterdir() if files.folder.is_dir() else ():
        with suppress(OSError):
            path.unlink()


async def take_over(machine: CloudHypervisorMachine) -> None:
    """Of an adopted process; one that does not answer is still ours to watch and to kill."""
    try:
        await machine.look()
    except VolantError as error:
        logger.warning("adopted %s without its API: %s", machine.spec.name, error.what)
