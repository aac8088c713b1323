# SPDX-License-Identifier: Apache-2.0
"""/vms/NAME/boot-files and /plugins/NAME/boot-files: what boots them on a machine that is not volantd's."""

from __future__ import annotations

import asyncio

from volant.errors import Conflict
from volant.volantd.api.replies import TarStream
from volant.volantd.api.router import Router
from volant.volantd.vms.boot_files import make_plugin_record, open_boot_files
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.states import WITH_PROCESS, VmState


def make_router(fleet: Fleet) -> Router:
    router = Router()
    plugins, settings = fleet.domain.plugins, fleet.domain.settings

    @router.get("/plugins/{name}/boot-files", tags=["plugins"], response_class=TarStream)
    async def of_plugin(name: str, version: str = "", without_attached: bool = False) -> TarStream:
        """Kernel, boot archive and disk, for machines of others: a tar that begins with a document, boot.json."""
        plugin = plugins.load(f"{name}:{version}" if version else name)
        record = make_plugin_record(plugin)
        found = await asyncio.to_thread(
            open_boot_files, record, plugin, settings, None, leaves_out=without_attached
        )
        return TarStream(found.chunks())

    @router.get("/vms/{name}/boot-files", tags=["vms"], response_class=TarStream)
    async def of_vm(name: str, own_disk: bool = False, without_attached: bool = False) -> TarStream:
        """The same with the VM's own settings, and with its own disk where that is asked for and it does not run."""
        async with fleet.locked(name) as vm:
            record = vm.record
            if own_disk and (record.state in WITH_PROCESS or record.state is VmState.SUSPENDED):
                raise Conflict(
                    f"cannot export VM {record.name} with its own disk: it is {record.state.value}",
                    resolution=f"stop it first (volar vms stop {record.name}), or export it with its plugin's disk",
                )
            disk = vm.files.disk if own_disk and vm.files.disk.exists() else None
            found = await asyncio.to_thread(
                open_boot_files, record, plugins.load(record.plugin_reference), settings, disk,
                leaves_out=without_attached,
            )  # fmt: skip
        return TarStream(found.chunks())

    return router
