# SPDX-License-Identifier: Apache-2.0
"""Plugins as a kind of resource."""

from __future__ import annotations

from pathlib import Path

from volant.volantd.lost_and_found import LostAndFound
from volant.volantd.plugins.backup import keep, settle
from volant.volantd.plugins.routes import make_policy_router, make_router
from volant.volantd.plugins.trust import MIGRATIONS
from volant.volantd.resource import Resource
from volant.volantd.vms.fleet import Fleet


async def sweep(fleet: Fleet) -> None:
    domain = fleet.domain
    lost = LostAndFound(domain.settings.state_dir)

    def set_aside(path: Path) -> None:
        domain.events.add("lost_and_found", "", path=str(lost.keep(path, "plugin")))

    domain.plugins.sweep(set_aside)


PLUGINS = Resource(
    name="plugins",
    noun="plugin",
    migrations=MIGRATIONS,
    make_routers=lambda fleet: [
        make_router(fleet.domain.plugins),
        make_policy_router(fleet.domain.plugins.policy),
    ],
    sweep=sweep,
    places=("plugins",),
    keep=keep,
    settle=settle,
)
