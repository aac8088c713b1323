# SPDX-License-Identifier: Apache-2.0
"""Why a QEMU ended, in `explain_end`: a pure function of what its parent, QMP and the console had to say."""

from __future__ import annotations

from volant.volantd.hypervisors.base import CauseKind, EndKind, MachineEnd
from volant.volantd.hypervisors.crash import find_cause
from volant.volantd.hypervisors.host_process import ExitStatus


def explain_end(
    status: ExitStatus,
    *,
    shutdown_reason: str,
    asked_to_end: bool,
    disk_full: bool,
    memory_full: bool = False,
    killed_for_memory: bool = False,
    console: list[str],
    log: list[str],
) -> MachineEnd:
    """What an end means, from the exit status, QMP's SHUTDOWN reason and the last lines of console and
    log."""

    cause = find_cause(
        status, console, killed_for_memory=killed_for_memory, at_limit=memory_full, disk_full=disk_full
    )

    def end(kind: EndKind, reason: str = "") -> MachineEnd:
        crash = cause if kind is EndKind.CRASHED else None
        return MachineEnd(kind, reason, status.exit_code, status.signal, disk_full, crash)

    if asked_to_end:
        return end(EndKind.KILLED)
    if disk_full:
        return end(EndKind.CRASHED, "the host's disk is full")
    if memory_full:
        return end(EndKind.CRASHED, "the host's kernel ended QEMU: the VM took more memory than its limit")
    if killed_for_memory:
        return end(EndKind.CRASHED, "the host ran out of memory: its kernel ended QEMU")
    if status.signal is not None:
        return end(EndKind.CRASHED, f"QEMU was ended by {status.signal}")
    if status.exit_code:
        return end(
            EndKind.CRASHED, f"QEMU ended with exit code {status.exit_code}: {(log or ['no word'])[-1]}"
        )
    # A panic resets the machine (panic=-1), so only the console tells it from a reboot.
    has_panicked = cause.kind in (CauseKind.PANIC, CauseKind.GUEST_OUT_OF_MEMORY)
    if has_panicked and shutdown_reason in ("guest-reset", "guest-panic", ""):
        what = "the guest ran out of memory: " if cause.kind is CauseKind.GUEST_OUT_OF_MEMORY else ""
        return end(EndKind.CRASHED, what + cause.line)
    match shutdown_reason:
        case "guest-reset":
            return end(EndKind.REBOOTED)
        case "guest-shutdown" | "host-qmp-quit":
            return end(EndKind.POWERED_OFF)
        case "guest-panic":
            return end(EndKind.CRASHED, "the guest's kernel panicked")
        case "host-signal":
            return end(EndKind.CRASHED, "QEMU was ended by a signal (SIGTERM, SIGINT or SIGHUP)")
        case _ if status.exit_code == 0:
            return end(EndKind.POWERED_OFF)
    return end(EndKind.CRASHED, "QEMU ended without a word, as when it is killed or out of memory")
