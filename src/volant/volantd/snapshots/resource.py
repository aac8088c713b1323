# SPDX-License-Identifier: Apache-2.0
"""Snapshots as a kind of resource. They need the plugin that they were made of, and the secrets of their guest."""

from __future__ import annotations

import asyncio

from volant.volantd.resource import Resource
from volant.volantd.snapshots.backup import keep, settle
from volant.volantd.snapshots.routes import make_router
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.usage import FindUsers
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.fleet import Fleet


def open_store(domain: Domain) -> SnapshotStore:
    return SnapshotStore(domain.settings.state_dir, domain.settings.vms_dir)


async def sweep(fleet: Fleet) -> None:
    """What was cut off, and what a fork needed whose daemon was killed: no copy wakes from it any more."""
    store = open_store(fleet.domain)
    fleet.free_layers = store.sweep_layers
    for snapshot in store.list_all():
        place = str(store.find_place(snapshot.id))
        if snapshot.is_hidden and not fleet.domain.registry.find_users("snapshot", place):
            await asyncio.to_thread(store.remove, snapshot)
    await asyncio.to_thread(store.sweep)


def find_users(domain: Domain) -> FindUsers:
    return open_store(domain).find_users


SNAPSHOTS = Resource(
    name="snapshots",
    noun="snapshot",
    make_routers=lambda fleet: [make_router(fleet, open_store(fleet.domain))],
    sweep=sweep,
    find_users=find_users,
    places=("snapshots", "layers"),
    keep=keep,
    settle=settle,
)
