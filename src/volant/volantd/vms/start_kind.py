# SPDX-License-Identifier: Apache-2.0
"""How a VM's process came to a running guest, read from its spec."""

from __future__ import annotations

from typing import Literal

from volant.volantd.hypervisors.base import VmSpec

StartKind = Literal["boot", "template", "workload", "snapshot"]


def find_start(spec: VmSpec | None) -> StartKind | None:
    if spec is None:
        return None
    if spec.wakes_from is None:
        return "boot"
    if spec.wakes_from.has_workload:
        return "workload"
    return "template" if spec.wakes_from.is_template else "snapshot"
