# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from volant.volantd.hypervisors.base import CauseKind, EndKind
from volant.volantd.hypervisors.cloud_hypervisor.endings import explain_end, read_events
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.host_process import ExitStatus

ORDERLY = ExitStatus(exit_code=0)
PANIC = ["[    1.234567] Kernel panic - not syncing: Attempted to kill init!"]


@pytest.mark.parametrize(
    ("status", "known", "kind", "reason"),
    [
        (ORDERLY, {"events": ["booted", "shutdown"]}, EndKind.POWERED_OFF, ""),
        # Adopted: nobody told us the exit status.
        (ExitStatus(), {"events": ["booted", "shutdown"]}, EndKind.POWERED_OFF, ""),
        (ExitStatus(), {"events": ["booted"]}, EndKind.CRASHED, "Cloud Hypervisor ended without a word"),
        # It boots again by itself, or tries to: what we do about that is no crash.
        (ExitStatus(signal="SIGKILL"), {"events": ["booted", "rebooting", "booted"]}, EndKind.REBOOTED, ""),
        (ExitStatus(exit_code=1), {"events": ["booted", "rebooting"]}, EndKind.REBOOTED, ""),
        (
            ExitStatus(exit_code=1),
            {"events": ["rebooting"], "console": PANIC},
            EndKind.CRASHED,
            "Kernel panic - not syncing: Attempted to kill init!",
        ),
        # An old panic above an orderly end is history.
        (ORDERLY, {"events": ["shutdown"], "console": PANIC}, EndKind.POWERED_OFF, ""),
        (ExitStatus(signal="SIGKILL"), {}, EndKind.CRASHED, "Cloud Hypervisor was ended by SIGKILL"),
        (ExitStatus(signal="SIGKILL"), {"asked_to_end": True}, EndKind.KILLED, ""),
        (ExitStatus(signal="SIGKILL"), {"memory_full": True}, EndKind.CRASHED, "the host's kernel ended"),
        (
            ExitStatus(exit_code=1),
            {"log": ["first", "no KVM"]},
            EndKind.CRASHED,
            "Cloud Hypervisor ended with exit code 1: no KVM",
        ),
    ],
)
def test_an_end_is_explained(status: ExitStatus, known: dict[str, Any], kind: EndKind, reason: str) -> None:
    said = dict(known)
    events = said.pop("events", [])
    end = explain_end(KnownEnd(status, **said), events)
    assert end.kind is kind
    assert end.reason.startswith(reason) if reason else end.reason == ""


def test_a_panic_has_its_cause() -> None:
    end = explain_end(KnownEnd(ExitStatus(signal="SIGKILL"), console=PANIC), ["rebooting"])
    assert end.cause is not None
    assert end.cause.kind is CauseKind.PANIC


def test_events_are_read_up_to_an_unfinished_one(tmp_path: Path) -> None:
    documents = [
        {"source": "vm", "event": "booting"},
        {"source": "virtio-device", "event": "activated", "properties": {"id": "disk0"}},
        {"source": "vm", "event": "booted"},
    ]
    text = "\n\n".join(json.dumps(document, indent=2) for document in documents)
    path = tmp_path / "events"
    assert read_events(path) == []
    path.write_text(text)
    assert read_events(path) == ["booting", "booted"]
    path.write_text(text[:-3])
    assert read_events(path) == ["booting"]
