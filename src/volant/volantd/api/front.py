# SPDX-License-Identifier: Apache-2.0
"""The API as each listener has it: what every request goes through before it is answered, from the outside in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.types import ASGIApp

from volant.volantd.api.access import Gate
from volant.volantd.api.application import make_application
from volant.volantd.api.journal import Auditor, Journal
from volant.volantd.api.metrics import RequestMetrics, make_registry
from volant.volantd.api.page_door import PageDoor
from volant.volantd.api.permissions import Permissions
from volant.volantd.api.rate_limit import RateLimiter
from volant.volantd.dashboard.page import Page
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Front:
    """One application, and its measures, for all listeners."""

    domain: Domain
    application: FastAPI
    metrics: RequestMetrics
    page: Page
    limiter: RateLimiter

    def make_listener(self, token: str | None) -> ASGIApp:
        """`token` None: the UNIX socket, for this user and root; for whom its mode lets in where it has a group."""
        uids = None if self.domain.settings.socket_group else frozenset({0, os.geteuid()})
        gate = Gate(self._make_inside(), token, self.domain.tokens, uids, self.limiter)
        return Journal(gate, self.metrics)

    def make_page_listener(self) -> ASGIApp:
        """The dashboard's own."""
        return Journal(PageDoor(self._make_inside(), self.page), self.metrics)

    def _make_inside(self) -> ASGIApp:
        return Auditor(Permissions(self.application), self.domain.audit)


def make_front(domain: Domain, fleet: Fleet, begin_anew: Callable[[], None] = lambda: None) -> Front:
    registry = make_registry(domain)
    page = Page()
    application = make_application(domain, fleet, registry, begin_anew, page)
    return Front(
        domain, application, RequestMetrics(registry), page, RateLimiter(domain.settings.requests_per_second)
    )
