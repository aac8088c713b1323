# SPDX-License-Identifier: Apache-2.0
"""Secrets as a kind of resource."""

from __future__ import annotations

from volant.volantd.resource import Resource
from volant.volantd.secrets.routes import make_router

SECRETS = Resource(
    name="secrets", noun="secret", make_routers=lambda fleet: [make_router(fleet.domain.secrets)]
)
