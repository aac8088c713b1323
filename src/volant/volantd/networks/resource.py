# SPDX-License-Identifier: Apache-2.0
"""Networks as a kind of resource."""

from __future__ import annotations

from volant.volantd.networks.routes import make_router
from volant.volantd.networks.store import MIGRATIONS
from volant.volantd.resource import Resource

NETWORKS = Resource(
    name="networks",
    noun="network",
    migrations=MIGRATIONS,
    make_routers=lambda fleet: [make_router(fleet.domain.networks)],
)
