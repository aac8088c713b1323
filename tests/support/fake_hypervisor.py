# SPDX-License-Identifier: Apache-2.0
"""A hypervisor whose machines are `fake_guest` processes, and a daemon that uses it: `python fake_hypervisor.py`
(with `shutdown SECONDS`: what the host's shutdown calls)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from support.memory_hypervisor import copy_disk
from volant.contract.agents import Architecture
from volant.errors import Unreachable
from volant.process import start_detached
from volant.volantd.hypervisors.base import (
    EndKind,
    HostSupport,
    HypervisorKind,
    MachineEnd,
    MachineState,
    MemoryImage,
    ProcessIdentity,
    VmSpec,
)
from volant.volantd.hypervisors.crash import find_cause
from volant.volantd.hypervisors.host_process import HostProcess, find_process, identify
from volant.volantd.hypervisors.qemu import Qemu
from volant.volantd.hypervisors.qemu_arguments import name_sockets
from volant.volantd.hypervisors.qemu_traits import find_traits
from volant.volantd.hypervisors.streams import connect_unix

SUPPORT = Path(__file__).parent
# What a VM's own archive at the end of its initrd holds at most: settings, user-data, keys.
GUEST_BYTES = 4 << 20


@dataclass
class FakeMachine:
    spec: VmSpec
    process: HostProcess
    killed: bool = False
    problem: str = ""

    @property
    def identity(self) -> ProcessIdentity:
        return self.process.identity

    @property
    def state(self) -> MachineState:
        if self.process.is_ended:
            return MachineState.ENDED
        # One that somebody else has stopped is hung: its hypervisor does not know.
        return MachineState.PAUSED if self._pause_mark.exists() else MachineState.RUNNING

    @property
    def _pause_mark(self) -> Path:
        return self.spec.socket_folder / "paused"

    def _is_stopped(self) -> bool:
        stat = Path(f"/proc/{self.identity.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    async def wait(self) -> MachineEnd:
        status = await self.process.wait()
        if self.killed:
            return MachineEnd(EndKind.KILLED)
        if status.signal or status.exit_code:
            cause = find_cause(status, [], killed_for_memory=False)
            return MachineEnd(EndKind.CRASHED, f"ended by {status.signal or status.exit_code}", cause=cause)
        return MachineEnd(EndKind.POWERED_OFF)

    async def kill(self) -> MachineEnd:
        self.killed = True
        self.process.kill()
        return await self.wait()

    async def open_folders(self) -> socket.socket:
        raise Unreachable("there is no guest")

    async def open_control(self) -> socket.socket:
        return await connect_unix(name_sockets(self.spec.socket_folder).control)

    async def open_console(self) -> socket.socket:
        raise NotImplementedError

    def listen_for_guest(self, port: int) -> socket.socket | None:
        return None

    async def press_power_button(self) -> None:
        raise NotImplementedError

    async def pause(self) -> None:
        os.kill(self.identity.pid, signal.SIGSTOP)
        while not self._is_stopped():  # noqa: ASYNC110  # the kernel's doing
            await asyncio.sleep(0.001)
        self._pause_mark.touch()

    async def resume(self) -> None:
        self._pause_mark.unlink(missing_ok=True)
        os.kill(self.identity.pid, signal.SIGCONT)

    async def save_memory(self, folder: Path) -> MemoryImage:
        image = MemoryImage(folder)
        shutil.copyfile(self.spec.socket_folder / "guest.json", image.state)
        return image

    async def copy_disk(self, index: int, target: Path, begun: Callable[[], Awaitable[None]]) -> None:
        copy_disk(self.spec.disks[index], target)
        await begun()

    async def layer_disk(self, index: int, overlay: Path, name: str) -> None:
        raise NotImplementedError

    async def merge_layers(self, index: int, base: Path) -> bool:
        raise NotImplementedError

    async def find_layer(self, index: int) -> str:
        return ""

    async def resize(self, spec: VmSpec) -> None:
        raise NotImplementedError

    async def resize_disk(self, index: int, size_bytes: int) -> None:
        assert self.spec.disks[index].path.stat().st_size == size_bytes

    async def wait_resumed(self) -> None:
        await self.process.wait()

    async def release(self) -> None:
        self.process.close()


class FakeHypervisor:
    kind: HypervisorKind = "qemu"
    capabilities = replace(
        Qemu.capabilities, templates=False, live_layers=False, live_resize=False, lent_taps=False
    )

    def is_installed(self, architecture: Architecture) -> bool:
        return True

    async def find_support(
        self, architecture: Architecture, *, kernel: Path | None, firmware: bool = False
    ) -> HostSupport:
        return HostSupport("fake", "1", "microvm", "mmio", "tcg", "a fake")

    def find_traits(self, spec: VmSpec) -> dict[str, str]:
        return find_traits(spec)

    async def start(self, spec: VmSpec, taps: Sequence[int] = ()) -> FakeMachine:
        assert spec.initrd is not None
        source = spec.initrd if spec.wakes_from is None else spec.wakes_from.state
        with source.open("rb") as stream:
            stream.seek(-min(GUEST_BYTES, source.stat().st_size), os.SEEK_END)
            text = stream.read().decode("latin-1")
        config, _ = json.JSONDecoder().raw_decode(text[text.rindex('{"schema_version"') :])
        sockets = name_sockets(spec.socket_folder)
        guest = spec.socket_folder / "guest.json"
        guest.write_text(json.dumps(config))
        sockets.control.unlink(missing_ok=True)
        # The QMP socket's path marks the process, as it does QEMU's.
        program = [sys.executable, str(SUPPORT / "fake_guest.py")]
        arguments = [str(guest), str(sockets.control), str(spec.console_log), str(sockets.qmp)]
        pid = start_detached([*program, *arguments], spec.hypervisor_log)
        os.sched_setaffinity(pid, range(os.cpu_count() or 1))  # where a bench keeps the daemon on one
        if os.environ.get("FAKE_DIE") == "after-start":
            os._exit(9)
        identity = identify(pid)
        assert identity is not None
        machine = FakeMachine(spec, HostProcess(identity, os.pidfd_open(pid)))
        if spec.wakes_from is not None:
            while not sockets.control.exists():  # noqa: ASYNC110  # a program's doing
                await asyncio.sleep(0.01)
            await machine.pause()
        return machine

    def find_process(self, spec: VmSpec) -> ProcessIdentity | None:
        return find_process(os.fsencode(name_sockets(spec.socket_folder).qmp))

    async def adopt(self, identity: ProcessIdentity, spec: VmSpec) -> FakeMachine | None:
        process = HostProcess.open(identity)
        return None if process is None else FakeMachine(spec, process)


if __name__ == "__main__":
    from volant.volantd.daemon import run_daemon
    from volant.volantd.settings import read_settings
    from volant.volantd.shutdown import shut_down

    if sys.argv[1:2] == ["shutdown"]:
        asyncio.run(shut_down(read_settings(), FakeHypervisor(), float(sys.argv[2])))
    else:
        asyncio.run(run_daemon(read_settings(), FakeHypervisor()))
