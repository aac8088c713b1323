# SPDX-License-Identifier: Apache-2.0
"""Secrets as a kind of resource."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from volant.volantd.backup.kept import Keeping
from volant.volantd.resource import Resource
from volant.volantd.secrets.routes import make_router
from volant.volantd.vms.fleet import Fleet

KEY = "secrets.key"


async def keep(fleet: Fleet, keeping: Keeping) -> AsyncIterator[tuple[str, Path]]:
    """Their rows are sealed as ever; this is what opens them."""
    yield KEY, keeping.copy(fleet.domain.settings.state_dir / KEY, KEY)


SECRETS = Resource(
    name="secrets",
    noun="secret",
    make_routers=lambda fleet: [make_router(fleet.domain.secrets)],
    places=(KEY,),
    keep=keep,
)
