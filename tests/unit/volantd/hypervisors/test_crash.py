# SPDX-License-Identifier: Apache-2.0
"""Why a machine crashed, from what kernels write: their words are copied from consoles and logs of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.volantd.hypervisors.base import CauseKind, CrashCause
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.hypervisors.crash import MemoryWatch, find_cause
from volant.volantd.hypervisors.host_process import ExitStatus

PANIC = "[    1.234567] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"
OOM = "[    9.876543] Out of memory: Killed process 87 (python3) total-vm:901240kB, anon-rss:180440kB, UID:0"
OOM_PANIC = "[    9.9] Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled"


@pytest.mark.parametrize(
    ("status", "console", "expected"),
    [
        (ExitStatus(exit_code=0), [PANIC], CrashCause(CauseKind.PANIC, 0, None, PANIC[15:])),
        (
            ExitStatus(exit_code=0),
            [OOM_PANIC],
            CrashCause(CauseKind.GUEST_OUT_OF_MEMORY, 0, None, OOM_PANIC[10:]),
        ),
        (
            ExitStatus(exit_code=0),
            [OOM, PANIC],
            CrashCause(CauseKind.GUEST_OUT_OF_MEMORY, 0, None, PANIC[15:]),
        ),
        (ExitStatus(), [PANIC], CrashCause(CauseKind.PANIC, line=PANIC[15:])),
        (ExitStatus(), ["login:"], CrashCause(CauseKind.UNKNOWN)),
        (ExitStatus(signal="SIGSEGV"), [], CrashCause(CauseKind.SIGNAL, None, "SIGSEGV")),
        (ExitStatus(exit_code=1), [], CrashCause(CauseKind.EXIT, 1)),
    ],
)
def test_what_is_on_the_console_and_in_the_status(
    status: ExitStatus, console: list[str], expected: CrashCause
) -> None:
    assert find_cause(status, console, killed_for_memory=False) == expected


def test_what_the_host_did_comes_first() -> None:
    killed = ExitStatus(signal="SIGKILL")
    assert find_cause(killed, [PANIC], killed_for_memory=True).kind is CauseKind.HOST_OUT_OF_MEMORY
    at_limit = find_cause(killed, [PANIC], killed_for_memory=False, at_limit=True)
    assert (at_limit.kind, at_limit.signal) == (CauseKind.MEMORY_LIMIT, "SIGKILL")
    full = find_cause(killed, [], killed_for_memory=True, at_limit=True, disk_full=True)
    assert full.kind is CauseKind.HOST_DISK_FULL


def test_the_hosts_kernel_is_asked_whom_it_killed(tmp_path: Path) -> None:
    vmstat, log = tmp_path / "vmstat", tmp_path / "kmsg"
    vmstat.write_text("nr_free_pages 1\noom_kill 3\noom_kill_other 9\n")
    log.write_text("3,1,2,-;Out of memory: Killed process 4711 (qemu-system-x86) total-vm:1kB\n")
    watch = MemoryWatch(vmstat, log)
    assert watch.find_kill(4711) is None  # that was before
    vmstat.write_text("nr_free_pages 1\noom_kill 4\n")
    assert watch.find_kill(4711) is CauseKind.HOST_OUT_OF_MEMORY
    assert watch.find_kill(471) is None
    log.write_text(
        "3,1,2,-;Memory cgroup out of memory: Killed process 4711 (qemu-system-x86) total-vm:1kB\n"
    )
    assert watch.find_kill(4711) is CauseKind.MEMORY_LIMIT
    assert watch.find_kill(471) is None
    log.unlink()
    assert watch.find_kill(471) is CauseKind.HOST_OUT_OF_MEMORY  # nobody says who it was
    vmstat.unlink()
    assert MemoryWatch(vmstat, log).find_kill(1) is None


def test_this_hosts_own_kernel_is_read() -> None:
    assert MemoryWatch().find_kill(1) is None


def test_the_console_is_read_from_where_this_start_began(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(f"{PANIC}\r\n".encode())
    begin = log.stat().st_size
    with log.open("ab") as stream:
        stream.write(f"\x1b[2J{OOM}\r\n{OOM_PANIC}\r\n".encode())
    cause = find_cause(
        ExitStatus(exit_code=0), read_last_lines(log, 50, since=begin), killed_for_memory=False
    )
    assert (cause.kind, cause.line) == (CauseKind.GUEST_OUT_OF_MEMORY, OOM_PANIC[10:])
    log.write_bytes(b"short\n")  # trimmed meanwhile
    assert read_last_lines(log, 50, since=begin) == ["short"]
