# SPDX-License-Identifier: Apache-2.0
"""What every machine is that one process of this host stands for: who it is, whether it runs, and that it ends.

A driver's machine adds how it is told things, and reads in what it alone knows why it ended.
"""

from __future__ import annotations

import abc
import asyncio

from volant.errors import Conflict
from volant.volantd.hypervisors.base import CauseKind, MachineEnd, MachineState, ProcessIdentity, VmSpec
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.hypervisors.crash import MemoryWatch
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.groups import was_killed_for_memory
from volant.volantd.hypervisors.host_process import HostProcess

CONSOLE_LINES = 50
LOG_LINES = 20


class ProcessMachine(abc.ABC):
    """Made inside a running event loop, of a child or of an adopted process."""

    def __init__(self, spec: VmSpec, process: HostProcess, console_begin: int = 0) -> None:
        """`console_begin`: how long the console's log was before this process wrote to it."""
        self.spec = spec
        self._process = process
        self._console_begin = console_begin
        self._asked_to_end = False
        self._paused = False
        self._resumed = asyncio.Event()
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

    async def wait(self) -> MachineEnd:
        return await asyncio.shield(self._watch)

    async def kill(self) -> MachineEnd:
        self._asked_to_end = True
        self._process.kill()
        return await self.wait()

    async def wait_resumed(self) -> None:
        await self._resumed.wait()
        self._resumed.clear()

    def _require(self, state: MachineState, verb: str) -> None:
        if self.state is not state:
            raise Conflict(f"cannot {verb} {self.spec.name}: it is {self.state.value}")

    def _read_log(self) -> list[str]:
        """The last words of the process itself."""
        return read_last_lines(self.spec.hypervisor_log, LOG_LINES)

    async def _wait_for_end(self) -> MachineEnd:
        status = await self._process.wait()
        is_killed = not self._asked_to_end and status.signal in (None, "SIGKILL") and not status.exit_code
        kill = self._memory.find_kill(self.identity.pid) if is_killed else None
        await self._let_go()
        known = KnownEnd(
            status,
            asked_to_end=self._asked_to_end,
            memory_full=kill is CauseKind.MEMORY_LIMIT or was_killed_for_memory(self.spec.id),
            killed_for_memory=kill is not None,
            console=read_last_lines(self.spec.console_log, CONSOLE_LINES, since=self._console_begin),
            log=self._read_log(),
        )
        end = self._explain(known)
        self._remove_files()
        return end

    @abc.abstractmethod
    async def _let_go(self) -> None:
        """The process has ended: hear what it still had to say, and close what was open to it."""

    @abc.abstractmethod
    def _explain(self, known: KnownEnd) -> MachineEnd: ...

    @abc.abstractmethod
    def _remove_files(self) -> None:
        """Its sockets and whatever else it leaves behind."""
