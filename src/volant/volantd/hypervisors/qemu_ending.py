# SPDX-License-Identifier: Apache-2.0
"""Why a QEMU ended, in `explain_end`: a pure function of what its parent, QMP and the console had to say."""

from __future__ import annotations

from volant.volantd.hypervisors.base import EndKind, MachineEnd
from volant.volantd.hypervisors.endings import KnownEnd

PROGRAM = "QEMU"


def explain_end(known: KnownEnd, shutdown_reason: str) -> MachineEnd:
    """`shutdown_reason`: of QMP's event SHUTDOWN; empty where there was none."""
    if (end := known.explain_host(PROGRAM) or known.explain_status(PROGRAM)) is not None:
        return end
    # A panic resets the machine (panic=-1), so only the console tells it from a reboot.
    if shutdown_reason in ("guest-reset", "guest-panic", ""):
        panicked = known.explain_panic(known.status)
        if panicked is not None:
            return panicked
    match shutdown_reason:
        case "guest-reset":
            return known.end(EndKind.REBOOTED)
        case "guest-shutdown" | "host-qmp-quit":
            return known.end(EndKind.POWERED_OFF)
        case "guest-panic":
            return known.end(EndKind.CRASHED, "the guest's kernel panicked")
        case "host-signal":
            return known.end(EndKind.CRASHED, "QEMU was ended by a signal (SIGTERM, SIGINT or SIGHUP)")
        case _ if known.status.exit_code == 0:
            return known.end(EndKind.POWERED_OFF)
    return known.explain_silence(PROGRAM)
