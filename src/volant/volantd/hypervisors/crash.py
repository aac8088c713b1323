# SPDX-License-Identifier: Apache-2.0
"""Why a machine ended that nobody asked to end, from its exit status, its console and what the host's kernel did.

The words are the kernel's own: panic() of kernel/panic.c, and those of mm/oom_kill.c, in the guest as on the host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from volant.volantd.hypervisors.base import CauseKind, CrashCause
from volant.volantd.hypervisors.host_process import ExitStatus

_PANIC = re.compile(r"(Kernel panic - not syncing.*)")
_OUT_OF_MEMORY = re.compile(r"((?:Out of memory|Memory cgroup out of memory): Killed process.*)")
_NO_MEMORY_PANIC = re.compile(r"Out of memory|deadlocked on memory", re.IGNORECASE)
MOST_KERNEL_LOG_BYTES = 4 << 20


def find_cause(
    status: ExitStatus,
    console: Sequence[str],
    *,
    killed_for_memory: bool,
    at_limit: bool = False,
    disk_full: bool = False,
) -> CrashCause:
    """`console` are the guest's last lines; `killed_for_memory`: the host's kernel says that it ended the process;
    `at_limit`: because of the VM's own limit."""
    panic, victim = _find(_PANIC, console), _find(_OUT_OF_MEMORY, console)
    if disk_full:
        kind, line = CauseKind.HOST_DISK_FULL, ""
    elif at_limit:
        kind, line = CauseKind.MEMORY_LIMIT, ""
    elif killed_for_memory:
        kind, line = CauseKind.HOST_OUT_OF_MEMORY, ""
    elif status.signal is not None:
        kind, line = CauseKind.SIGNAL, ""
    elif status.exit_code:
        kind, line = CauseKind.EXIT, ""
    elif panic and (victim or _NO_MEMORY_PANIC.search(panic)):
        kind, line = CauseKind.GUEST_OUT_OF_MEMORY, panic
    elif panic:
        kind, line = CauseKind.PANIC, panic
    else:
        kind, line = CauseKind.UNKNOWN, victim
    return CrashCause(kind, status.exit_code, status.signal, line)


def _find(pattern: re.Pattern[str], lines: Sequence[str]) -> str:
    return next((match[1] for line in lines if (match := pattern.search(line))), "")


class MemoryWatch:
    """Whether the host's kernel ended a process for lack of memory: asked when it has ended by SIGKILL."""

    def __init__(self, vmstat: Path = Path("/proc/vmstat"), log: Path = Path("/dev/kmsg")) -> None:
        self._vmstat, self._log = vmstat, log
        self._before = self._count()

    def find_kill(self, pid: int) -> CauseKind | None:
        """Whose memory it was that ran out, by the kernel's log: the host's or a control group's. Where the log may not
        be read, it is taken for the host's once the kernel has killed anything."""
        if self._count() <= self._before:
            return None
        lines = self._read_log()
        if lines is None:
            return CauseKind.HOST_OUT_OF_MEMORY
        killed = f"Killed process {pid} "
        if f"Memory cgroup out of memory: {killed}" in lines:
            return CauseKind.MEMORY_LIMIT
        return CauseKind.HOST_OUT_OF_MEMORY if killed in lines else None

    def _count(self) -> int:
        """Kills since the host was started (/proc/vmstat, oom_kill), those of cgroups included."""
        try:
            found = re.search(r"^oom_kill (\d+)$", self._vmstat.read_text(), re.MULTILINE)
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def _read_log(self) -> str | None:
        """The kernel's log (Documentation/ABI/testing/dev-kmsg); None where this user may not read it."""
        records = []
        try:
            descriptor = os.open(self._log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            size = 0
            while size < MOST_KERNEL_LOG_BYTES:
                try:
                    record = os.read(descriptor, 8192)
                except BrokenPipeError:
                    continue  # overwritten while we read
                except OSError:
                    break  # EAGAIN: that was the last one
                if not record:
                    break
                records.append(record)
                size += len(record)
        finally:
            os.close(descriptor)
        return b"".join(records).decode("utf-8", "replace")
