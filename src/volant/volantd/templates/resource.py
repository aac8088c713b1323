# SPDX-License-Identifier: Apache-2.0
"""Templates as a kind of resource: nobody needs one, since a VM boots without."""

from __future__ import annotations

import asyncio

from volant.volantd.resource import Resource
from volant.volantd.templates.making import sweep
from volant.volantd.templates.routes import make_router
from volant.volantd.vms.fleet import Fleet


async def sweep_all(fleet: Fleet) -> None:
    await asyncio.to_thread(sweep, fleet.domain.templates.store, fleet.domain.settings.runtime_dir)


TEMPLATES = Resource(
    name="templates", noun="template", make_routers=lambda fleet: [make_router(fleet)], sweep=sweep_all
)
