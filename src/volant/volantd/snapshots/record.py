# SPDX-License-Identifier: Apache-2.0
"""A snapshot as its folder keeps it: a VM's disk, and its memory where it ran, of one instant."""

from __future__ import annotations

from pathlib import Path

from volant.volantd.vms.record import StoredModel, VmDefinition, WakeSource


class Snapshot(StoredModel):
    """`layer` is the frozen disk (None: the plugin lives in RAM); `wake` None: of the disk alone, which boots.

    `pause_ms` is how long the VM stood still for it, `request_key` that of the request that it was made for.
    """

    id: str
    name: str
    vm_id: str
    vm_name: str
    plugin_name: str
    plugin_version: str
    definition: VmDefinition
    layer: Path | None
    wake: WakeSource | None
    pause_ms: float
    created_at: str
    request_key: str = ""

    @property
    def is_hidden(self) -> bool:
        """A fork's own, on its way."""
        return self.name.startswith(".")

    @property
    def plugin_reference(self) -> str:
        return f"{self.plugin_name}:{self.plugin_version}"
