# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from volant.volar.timeline import describe_boot


def make_event(second: float, kind: str, **data: Any) -> Any:
    return {
        "id": 1,
        "time": f"2026-01-01T00:00:{second:06.3f}Z",
        "kind": kind,
        "vm": "web",
        "data": {"id": "7", **data},
    }


def make_vm(started_at: str | None = "2026-01-01T00:00:10.000Z") -> Any:
    return {"id": "7", "started_at": started_at}


def test_the_steps_of_this_boot_in_their_order() -> None:
    events = [
        make_event(1, "agent", connected=True),  # an earlier boot
        make_event(10.9, "agent", connected=True)
        | {"data": {"id": "8", "connected": True}},  # an earlier VM of the name
        make_event(10.9, "agent", connected=True),
        make_event(11.2, "health", status="running", health="starting"),
        make_event(11.4, "state", status="running"),
        make_event(12.05, "health", health="healthy"),
        make_event(30, "agent", connected=False),
        make_event(31, "agent", connected=True),
        make_event(40, "health", health="unhealthy"),
        make_event(41, "health", health="healthy"),
    ]
    assert describe_boot(make_vm(), events) == "agent 0.9 s, running 1.4 s, healthy 2.0 s"


def test_a_vm_that_was_never_started_has_none() -> None:
    assert describe_boot(make_vm(None), [make_event(11, "agent", connected=True)]) == ""
    assert describe_boot(make_vm(), []) == ""
