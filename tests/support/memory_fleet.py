# SPDX-License-Identifier: Apache-2.0
"""The whole domain over the hypervisor in memory, with one plugin, `web`; its VMs are gone when the test is."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from support.plugin_files import make_plugin
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.opened_state import make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms.fleet import Fleet


@contextlib.asynccontextmanager
async def open_fleet(folder: Path, others: Sequence[Hypervisor] = ()) -> AsyncIterator[Fleet]:
    (folder / "vmlinux").write_bytes(b"\x7fELF")
    settings = Settings(state_dir=folder, runtime_dir=folder, kernel=folder / "vmlinux")
    with contextlib.ExitStack() as stack:
        fleet = Fleet(make_domain(settings, MemoryHypervisor(MemoryHost()), stack, others))
        await fleet.domain.plugins.install(io.BytesIO(make_plugin("web")), source="web")
        yield fleet
        for record in fleet.list_all():
            await fleet.delete(record.name, force=True)  # a name comes before an id
        await fleet.release_all()
