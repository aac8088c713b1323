# SPDX-License-Identifier: Apache-2.0
"""When a VM's present boot got how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volant.contract.api_types import Boot

MACHINES = {
    "template": "awake from a template",
    "workload": "awake from a template of its workload",
    "snapshot": "awake from a snapshot",
}


def describe_boot(boot: Boot) -> str:
    """The steps with their seconds: "agent 0.9 s, running 1.4 s, healthy 1.6 s"; empty before the first."""
    machine = MACHINES.get(boot["started_from"] or "boot", "machine")
    return ", ".join(
        f"{machine if step['name'] == 'machine' else step['name']} {step['seconds']:.1f} s"
        for step in boot["steps"]
    )
