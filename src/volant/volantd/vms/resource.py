# SPDX-License-Identifier: Apache-2.0
"""VMs as a kind of resource."""

from __future__ import annotations

import asyncio

from volant.volantd.api import boot_files, guest_files, guests, vms
from volant.volantd.resource import Resource
from volant.volantd.usage import FindUsers
from volant.volantd.vms import boot_record, history, registry, request_keys
from volant.volantd.vms.adoption import adopt_all
from volant.volantd.vms.backup import keep, settle
from volant.volantd.vms.comeback import Comeback, bring_back
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.idling import watch_idle


def find_users(domain: Domain) -> FindUsers:
    return domain.registry.find_users


async def tend(fleet: Fleet) -> None:
    await asyncio.gather(bring_back(fleet, Comeback(fleet.domain.settings.state_dir)), watch_idle(fleet))


VMS = Resource(
    name="vms",
    noun="VM",
    # In the order in which they were released.
    migrations=(
        *request_keys.MIGRATIONS,
        *history.MIGRATIONS,
        *registry.MIGRATIONS,
        *boot_record.MIGRATIONS,
    ),
    make_routers=lambda fleet: [
        vms.make_router(fleet),
        guests.make_router(fleet),
        guest_files.make_router(fleet),
        boot_files.make_router(fleet),
    ],
    sweep=adopt_all,
    tend=tend,
    find_users=find_users,
    places=("vms",),
    keep=keep,
    settle=settle,
)
