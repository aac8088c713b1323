# SPDX-License-Identifier: Apache-2.0
"""When a VM's present boot got how far, from the events that the daemon keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volant.contract.api_types import Event, Vm


MACHINE_STEPS = {"boot": "machine", "template": "awake from a template", "snapshot": "awake from a snapshot"}


def describe_boot(vm: Vm, events: Iterable[Event]) -> str:
    """The steps of the boot with their seconds: "agent 0.9 s, running 1.4 s, healthy 1.6 s"; empty before the first."""
    begin = vm["started_at"]
    if begin is None:
        return ""
    own = [event for event in events if event["data"].get("id") == vm["id"] and event["time"] >= begin]
    steps: dict[str, float] = {}
    for event in own:
        for step in list_steps(event):
            # The first time counts: health may turn over later, and the agent may be connected to again.
            steps.setdefault(step, measure_seconds(begin, event["time"]))
    return ", ".join(f"{step} {seconds:.1f} s" for step, seconds in steps.items())


def list_steps(event: Event) -> Iterator[str]:
    """What this event says for the first time of a boot."""
    data = event["data"]
    if event["kind"] == "prepared":
        yield "disk"
    elif event["kind"] == "started":
        yield MACHINE_STEPS[data.get("started_from", "boot")]
    elif event["kind"] == "agent" and data.get("connected") is True:
        yield "agent"
    elif event["kind"] == "state" and data.get("status") == "running":
        yield "running"
    elif event["kind"] == "health" and data.get("health") == "healthy":
        yield "healthy"


def measure_seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
