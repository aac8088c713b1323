# SPDX-License-Identifier: Apache-2.0
"""What an end means; starting the real QEMU is an integration test."""

from __future__ import annotations

from typing import Any

import pytest

from volant.volantd.hypervisors.base import EndKind
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.host_process import ExitStatus
from volant.volantd.hypervisors.qemu_ending import explain_end

ORDERLY = ExitStatus(exit_code=0)
PANIC = ["[    1.234567] Kernel panic - not syncing: Attempted to kill init!"]


@pytest.mark.parametrize(
    ("status", "known", "kind", "reason"),
    [
        (ORDERLY, {"shutdown_reason": "guest-shutdown"}, EndKind.POWERED_OFF, ""),
        (ORDERLY, {}, EndKind.POWERED_OFF, ""),
        (ORDERLY, {"shutdown_reason": "guest-reset"}, EndKind.REBOOTED, ""),
        (
            ORDERLY,
            {"shutdown_reason": "guest-reset", "console": PANIC},
            EndKind.CRASHED,
            "Kernel panic - not syncing: Attempted to kill init!",
        ),
        # An old panic above an orderly end is history.
        (ORDERLY, {"shutdown_reason": "guest-shutdown", "console": PANIC}, EndKind.POWERED_OFF, ""),
        (ExitStatus(signal="SIGKILL"), {}, EndKind.CRASHED, "QEMU was ended by SIGKILL"),
        (ExitStatus(signal="SIGKILL"), {"asked_to_end": True}, EndKind.KILLED, ""),
        (ORDERLY, {"shutdown_reason": "host-signal"}, EndKind.CRASHED, "QEMU was ended by a signal"),
        (
            ExitStatus(exit_code=1),
            {"log": ["first", "cannot allocate memory"]},
            EndKind.CRASHED,
            "QEMU ended with exit code 1: cannot allocate memory",
        ),
        # Adopted: nobody told us the exit status.
        (ExitStatus(), {"shutdown_reason": "guest-shutdown"}, EndKind.POWERED_OFF, ""),
        (ExitStatus(), {}, EndKind.CRASHED, "QEMU ended without a word"),
        (ORDERLY, {"disk_full": True}, EndKind.CRASHED, "the host's disk is full"),
    ],
)
def test_an_end_is_explained(status: ExitStatus, known: dict[str, Any], kind: EndKind, reason: str) -> None:
    said = dict(known)
    shutdown_reason = said.pop("shutdown_reason", "")
    end = explain_end(KnownEnd(status, **said), shutdown_reason)
    assert end.kind is kind
    assert end.reason.startswith(reason) if reason else end.reason == ""
    assert end.host_disk_full is bool(known.get("disk_full"))
