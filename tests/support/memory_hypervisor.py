# SPDX-License-Identifier: Apache-2.0
"""A hypervisor whose machines are objects: they outlive the daemon that started them, as processes do."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from volant.contract.agents import Architecture
from volant.errors import Conflict, Unreachable
from volant.volantd.hypervisors.base import (
    DiskDrive,
    EndKind,
    HostSupport,
    HypervisorKind,
    MachineEnd,
    MachineState,
    MemoryImage,
    ProcessIdentity,
    VmSpec,
)
from volant.volantd.hypervisors.host_process import read_boot_id
from volant.volantd.hypervisors.qemu import Qemu
from volant.volantd.hypervisors.qemu_traits import find_traits
from volant.volantd.vms.disks import run_qemu_img


@dataclass(eq=False)
class MemoryProcess:
    spec: VmSpec
    identity: ProcessIdentity
    content: str
    """What it has written, to its memory and to its disk: a new text for each time that it goes on."""
    is_paused: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    end: MachineEnd = field(default_factory=lambda: MachineEnd(EndKind.CRASHED))

    def finish(self, kind: EndKind) -> None:
        if not self.ended.is_set():
            self.end = MachineEnd(kind)
            self.ended.set()

    @property
    def disk(self) -> Path:
        return self.spec.socket_folder / "written"

    def go_on(self) -> None:
        self.is_paused = False
        self.content = secrets.token_hex(8)
        self.disk.write_text(self.content)


class MemoryHost:
    """What runs, whichever daemon is there."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._processes: list[MemoryProcess] = []
        self.misfits: list[str] = []
        """Machines that woke from a memory that was not of their disk."""

    @property
    def living(self) -> list[MemoryProcess]:
        return [process for process in self._processes if not process.ended.is_set()]

    def launch(self, spec: VmSpec) -> MemoryProcess:
        process = MemoryProcess(spec, ProcessIdentity(next(self._numbers), 1, read_boot_id()), "")
        if spec.wakes_from is None:
            process.go_on()
        else:
            process.is_paused = True
            process.content = spec.wakes_from.state.read_text()
            is_own = spec.socket_folder in spec.wakes_from.folder.parents
            if is_own and process.content != process.disk.read_text():
                self.misfits.append(spec.name)
        self._processes.append(process)
        return process


@dataclass
class MemoryMachine:
    process: MemoryProcess
    act: Callable[[], None]
    problem: str = ""

    @property
    def identity(self) -> ProcessIdentity:
        return self.process.identity

    @property
    def state(self) -> MachineState:
        if self.process.ended.is_set():
            return MachineState.ENDED
        return MachineState.PAUSED if self.process.is_paused else MachineState.RUNNING

    async def wait(self) -> MachineEnd:
        await self.process.ended.wait()
        return self.process.end

    async def kill(self) -> MachineEnd:
        self.act()
        self.process.finish(EndKind.KILLED)
        return self.process.end

    async def open_folders(self) -> socket.socket:
        raise Unreachable("there is no guest")

    async def open_control(self) -> socket.socket:
        raise Unreachable("there is no agent")

    async def open_console(self) -> socket.socket:
        raise Unreachable("there is no console")

    def listen_for_guest(self, port: int) -> socket.socket | None:
        return None

    async def press_power_button(self) -> None:
        self.act()
        self.process.finish(EndKind.POWERED_OFF)

    async def pause(self) -> None:
        self.act()
        self.process.is_paused = True
        self.act()

    async def resume(self) -> None:
        self.act()
        self.process.go_on()
        self.act()

    async def save_memory(self, folder: Path) -> MemoryImage:
        assert self.process.is_paused
        image = MemoryImage(folder)
        os.close(os.open(image.state, os.O_WRONLY | os.O_CREAT, 0o600))
        image.state.write_text(self.process.content)
        return image

    async def copy_disk(self, index: int, target: Path, begun: Callable[[], Awaitable[None]]) -> None:
        await begun()
        copy_disk(self.process.spec.disks[index], target)

    async def resize(self, spec: VmSpec) -> None:
        if spec.memory_mb < self.process.spec.memory_mb:
            raise Conflict("a guest does not give memory back")
        self.act()
        self.process.spec = spec
        self.act()

    async def layer_disk(self, index: int, overlay: Path, name: str) -> None:
        raise NotImplementedError

    async def merge_layers(self, index: int, base: Path) -> bool:
        raise NotImplementedError

    async def find_layer(self, index: int) -> str:
        return ""

    async def wait_resumed(self) -> None:
        await self.process.ended.wait()

    async def resize_disk(self, index: int, size_bytes: int) -> None:
        assert self.process.spec.disks[index].path.stat().st_size == size_bytes

    async def release(self) -> None:
        pass


def copy_disk(disk: DiskDrive, target: Path) -> None:
    """What a QEMU does to a QCOW2 that is there, as far as anybody can see."""
    if disk.format == "qcow2":
        shutil.copyfile(disk.path, target)
    else:
        run_qemu_img(target, "convert", "-f", "raw", "-O", "qcow2", str(disk.path), str(target))


class MemoryHypervisor:
    """`act` is called before and after whatever changes the host."""

    kind: HypervisorKind = "qemu"
    capabilities = replace(Qemu.capabilities, templates=False, lent_taps=False)
    version = "1"

    def __init__(self, host: MemoryHost, act: Callable[[], None] = lambda: None) -> None:
        self._host = host
        self._act = act

    def is_installed(self, architecture: Architecture) -> bool:
        return True

    async def find_support(
        self, architecture: Architecture, *, kernel: Path | None, firmware: bool = False
    ) -> HostSupport:
        return HostSupport("memory", self.version, "microvm", "mmio", "tcg", "in memory")

    def find_traits(self, spec: VmSpec) -> dict[str, str]:
        return find_traits(spec)

    async def start(self, spec: VmSpec, taps: Sequence[int] = ()) -> MemoryMachine:
        self._act()
        machine = MemoryMachine(self._host.launch(spec), self._act)
        self._act()
        return machine

    def find_process(self, spec: VmSpec) -> ProcessIdentity | None:
        return next((process.identity for process in self._host.living if process.spec == spec), None)

    async def adopt(self, identity: ProcessIdentity, spec: VmSpec) -> MemoryMachine | None:
        for process in self._host.living:
            if process.identity == identity:
                return MemoryMachine(process, self._act)
        return None
