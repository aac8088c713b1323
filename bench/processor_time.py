# SPDX-License-Identifier: Apache-2.0
"""Processor time of a daemon and of what it started: the host's part of a VM's start, apart from its machine's."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
HYPERVISORS = ("qemu-system", "cloud-hyperviso")


@dataclass(frozen=True, slots=True)
class ProcessTime:
    """Seconds: `own` user's and kernel's, `guest` in a guest on KVM."""

    name: str
    parent: int
    own: float
    guest: float


def find_daemon(path: Path) -> int:
    """The process that listens there."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path))
        credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def read_process(pid: int) -> ProcessTime:
    """proc(5), `stat`: the name is in brackets and may hold some itself; QEMU's user time has its guest's in it."""
    before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    fields = after.split()
    user, system, guest = (int(fields[index]) for index in (11, 12, 40))
    return ProcessTime(
        before.partition("(")[2],
        int(fields[1]),
        (user + system - guest) / TICKS_A_SECOND,
        guest / TICKS_A_SECOND,
    )


def read_host_seconds(daemon: int) -> dict[int, float]:
    """By process: the daemon and its children but those that are machines."""
    found = {daemon: read_process(daemon).own}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                child = read_process(int(entry.name))
                if child.parent == daemon and not child.name.startswith(HYPERVISORS):
                    found[int(entry.name)] = child.own
    return found


def find_spent_seconds(before: dict[int, float], after: dict[int, float]) -> float:
    """By those that are there afterwards: of what has ended, a machine too, the kernel tells no more than a sum."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
