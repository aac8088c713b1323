# SPDX-License-Identifier: Apache-2.0
"""Why a Cloud Hypervisor ended: from its exit status, what it told of its VM, and the last lines of console and log.

It answers a guest's reset by booting it again in the same process, which is not for it to decide here: `rebooting`
among its events means that the machine has ended, whether or not the process has by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from volant.volantd.hypervisors.base import CauseKind, EndKind, MachineEnd
from volant.volantd.hypervisors.crash import find_cause
from volant.volantd.hypervisors.host_process import ExitStatus

MOST_EVENT_BYTES = 1 << 20
REBOOTING = "rebooting"


def read_events(path: Path) -> list[str]:
    """What was told of the VM, in order: JSON documents one after the other, the last of which may be unfinished."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_EVENT_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    events, decoder = [], json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            event, end = decoder.raw_decode(text, at)
        except ValueError:
            break
        if event.get("source") == "vm":
            events.append(str(event.get("event", "")))
        at = text.find("{", end)
    return events


def explain_end(
    status: ExitStatus,
    *,
    events: Sequence[str],
    asked_to_end: bool,
    memory_full: bool,
    killed_for_memory: bool,
    console: list[str],
    log: list[str],
) -> MachineEnd:
    cause = find_cause(status, console, killed_for_memory=killed_for_memory, at_limit=memory_full)

    def end(kind: EndKind, reason: str = "") -> MachineEnd:
        crash = cause if kind is EndKind.CRASHED else None
        return MachineEnd(kind, reason, status.exit_code, status.signal, cause=crash)

    if asked_to_end:
        return end(EndKind.KILLED)
    if memory_full:
        what = "the VM took more memory than its limit"
        return end(EndKind.CRASHED, f"the host's kernel ended Cloud Hypervisor: {what}")
    if killed_for_memory:
        return end(EndKind.CRASHED, "the host ran out of memory: its kernel ended Cloud Hypervisor")
    if REBOOTING in events:
        cause = find_cause(ExitStatus(), console, killed_for_memory=False)
        if cause.kind in (CauseKind.PANIC, CauseKind.GUEST_OUT_OF_MEMORY):
            what = "the guest ran out of memory: " if cause.kind is CauseKind.GUEST_OUT_OF_MEMORY else ""
            return end(EndKind.CRASHED, what + cause.line)
        return end(EndKind.REBOOTED)
    if status.signal is not None:
        return end(EndKind.CRASHED, f"Cloud Hypervisor was ended by {status.signal}")
    if status.exit_code:
        last = (log or ["no word"])[-1]
        return end(EndKind.CRASHED, f"Cloud Hypervisor ended with exit code {status.exit_code}: {last}")
    # Of an adopted one nobody learns the exit status; it tells of an orderly end.
    if status.exit_code == 0 or "shutdown" in events:
        return end(EndKind.POWERED_OFF)
    return end(
        EndKind.CRASHED, "Cloud Hypervisor ended without a word, as when it is killed or out of memory"
    )
