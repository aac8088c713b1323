# SPDX-License-Identifier: Apache-2.0
"""Why a Cloud Hypervisor ended: from its exit status, what it told of its VM, and the last lines of console and log.

It answers a guest's reset by booting it again in the same process, which is not for it to decide here: `rebooting`
among its events means that the machine has ended, whether or not the process has by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from volant.volantd.hypervisors.base import EndKind, MachineEnd
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.host_process import ExitStatus

PROGRAM = "Cloud Hypervisor"
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


def explain_end(known: KnownEnd, events: Sequence[str]) -> MachineEnd:
    if (end := known.explain_host(PROGRAM)) is not None:
        return end
    if REBOOTING in events:
        # How the process ended is of our making, or of its second boot.
        return known.explain_panic(ExitStatus()) or known.end(EndKind.REBOOTED)
    if (end := known.explain_status(PROGRAM)) is not None:
        return end
    # Of an adopted one nobody learns the exit status; it tells of an orderly end.
    if known.status.exit_code == 0 or "shutdown" in events:
        return known.end(EndKind.POWERED_OFF)
    return known.explain_silence(PROGRAM)
