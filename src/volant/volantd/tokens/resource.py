# SPDX-License-Identifier: Apache-2.0
"""Tokens as a kind of resource."""

from __future__ import annotations

from volant.volantd.resource import Resource
from volant.volantd.tokens.routes import make_router
from volant.volantd.tokens.store import MIGRATIONS

TOKENS = Resource(
    name="tokens",
    noun="token",
    migrations=MIGRATIONS,
    make_routers=lambda fleet: [make_router(fleet.domain.tokens)],
)
