# SPDX-License-Identifier: Apache-2.0
"""A process of this host that may be our child or may have been adopted: who it is, and when it ends.

A pidfd tells the end of any process without polling and cannot come to mean another one; only a parent learns
how it ended. The start time guards the step before: that a stored process id still names the same process.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from volant.process import read_command
from volant.volantd.hypervisors.base import ProcessIdentity


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """Both None where another process was the parent."""

    exit_code: int | None = None
    signal: str | None = None


@lru_cache(maxsize=1)
def read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read_start_ticks(pid: int) -> int | None:
    """Field 22 of proc(5)'s stat; None for a process that is gone or only waits to be reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold any of these characters.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def identify(pid: int) -> ProcessIdentity | None:
    """Who a living process is, or None where there is none."""
    ticks = read_start_ticks(pid)
    return None if ticks is None else ProcessIdentity(pid, ticks, read_boot_id())


def find_process(mark: bytes) -> ProcessIdentity | None:
    """A process of this user with such a word on its command line."""
    for pid, command in list_commands():
        if mark in command and (identity := identify(pid)) is not None:
            return identity
    return None


def list_commands() -> Iterator[tuple[int, bytes]]:
    """Number and NUL-separated command of each process of this user but this one."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # Root's VMs are users of their own.
            is_ours = os.geteuid() in (0, folder.stat().st_uid)
            if is_ours and int(folder.name) != os.getpid():
                yield int(folder.name), read_command(int(folder.name))
        except OSError:
            continue


class HostProcess:
    """Owns a pidfd. Made inside a running event loop; `close` lets go without touching the process."""

    def __init__(self, identity: ProcessIdentity, pidfd: int) -> None:
        self.identity = identity
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[ExitStatus] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._on_end)

    @classmethod
    def open(cls, identity: ProcessIdentity) -> HostProcess | None:
        """Take hold of a process, or None where it has ended."""
        if identity.boot_id != read_boot_id():
            return None
        try:
            pidfd = os.pidfd_open(identity.pid)
        except OSError:
            return None
        # Checked after the pidfd is open: from here on the process cannot be another one.
        if read_start_ticks(identity.pid) != identity.start_ticks:
            os.close(pidfd)
            return None
        return cls(identity, pidfd)

    def _on_end(self) -> None:
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            status = ExitStatus()
        else:
            if result is None:
                return
            if result.si_code == os.CLD_EXITED:
                status = ExitStatus(exit_code=result.si_status)
            else:
                status = ExitStatus(signal=signal.Signals(result.si_status).name)
        self.close()
        if not self._ended.done():
            self._ended.set_result(status)

    @property
    def is_ended(self) -> bool:
        return self._ended.done() and not self._ended.cancelled()

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def take_child(pid: int) -> HostProcess:
    """Hold of a child just started, which may have ended already but is not reaped."""
    identity = identify(pid) or ProcessIdentity(pid, 0, "")
    return HostProcess(identity, os.pidfd_open(pid))


def read_use(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds of a process (proc(5)); zeros where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    ticks = int(fields[11]) + int(fields[12])
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK")


def read_cpu_seconds(pid: int) -> float:
    return read_use(pid)[1]
