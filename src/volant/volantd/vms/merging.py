# SPDX-License-Identifier: Apache-2.0
"""Each snapshot and fork adds a layer to a VM's disk: many of them are made one while it runs, in `merge_disk`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from volant.errors import VolantError
from volant.volantd.vms.disks import list_chain
from volant.volantd.vms.running_vm import RunningVm

logger = logging.getLogger(__name__)

# Between the disk and its plugin's: each costs a read of what lies below it another look.
MOST_LAYERS = 8


async def merge_disk(vm: RunningVm, sweep: Callable[[], None]) -> None:
    """Give the disk what lies between it and its plugin's, if that is much; `sweep` frees the layers that nobody stands
    on then. Whatever is done to the disk meanwhile ends it, and the next snapshot begins again with what is left."""
    chain = await asyncio.to_thread(lambda: list(list_chain(vm.files.disk)))
    if len(chain) - 2 <= MOST_LAYERS or vm.monitor is None:
        return
    try:
        is_merged = await vm.monitor.machine.merge_layers(0, chain[-1])
    except VolantError as error:
        logger.warning("the disk of VM %s keeps its %d layers: %s", vm.id, len(chain) - 2, error.what)
        return
    if is_merged:
        logger.info("the disk of VM %s had %d layers and has none", vm.id, len(chain) - 2)
        await asyncio.to_thread(sweep)
