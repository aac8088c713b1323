# SPDX-License-Identifier: Apache-2.0
"""Volumes as a kind of resource."""

from __future__ import annotations

import asyncio

from volant.volantd.resource import Resource
from volant.volantd.vms.fleet import Fleet
from volant.volantd.volumes.backup import keep, settle
from volant.volantd.volumes.routes import make_router


async def sweep(fleet: Fleet) -> None:
    store = fleet.domain.volumes
    await asyncio.to_thread(store.sweep)
    for volume in store.list_all():
        if not volume.is_settled and store.find_vms(volume):
            store.settle(volume)
        elif not volume.is_settled:
            await asyncio.to_thread(store.remove, volume)


VOLUMES = Resource(
    name="volumes",
    noun="volume",
    make_routers=lambda fleet: [make_router(fleet)],
    sweep=sweep,
    places=("volumes",),
    keep=keep,
    settle=settle,
)
