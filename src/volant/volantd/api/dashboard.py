# SPDX-License-Identifier: Apache-2.0
"""/dashboard: links that open this daemon's page, once each."""

from __future__ import annotations

from volant.contract.system_api import DashboardLink
from volant.volantd.api.router import Router
from volant.volantd.dashboard.page import Page
from volant.volantd.dashboard.sessions import CODE_SECONDS
from volant.volantd.request_context import find_request


def make_router(page: Page) -> Router:
    router = Router("/dashboard", tags=["dashboard"])

    @router.post("/links")
    async def make_link() -> DashboardLink:
        """Make a link to the dashboard for a browser on this host. It works once and for one minute."""
        request = find_request()
        who = request.who if request is not None else "nobody"
        return DashboardLink(url=page.make_link(who), expires_seconds=CODE_SECONDS)

    return router
