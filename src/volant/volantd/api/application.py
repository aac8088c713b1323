# SPDX-License-Identifier: Apache-2.0
"""The whole API as one ASGI application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from volant import __version__
from volant.contract.api import ErrorReply
from volant.errors import TooManyRequests
from volant.volantd.api import dashboard, system
from volant.volantd.api.body_limit import BodyLimit
from volant.volantd.api.errors import install_translator
from volant.volantd.api.links import add_links
from volant.volantd.api.metrics import make_registry
from volant.volantd.api.router import ERROR_STATUSES
from volant.volantd.backup import routes as backup
from volant.volantd.dashboard.page import Page
from volant.volantd.resources import RESOURCES
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.fleet import Fleet

RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
ERROR_SCHEMA = "#/components/schemas/ErrorReply"


def describe_errors(description: dict[str, Any]) -> dict[str, Any]:
    """Errors are JSON from every operation, also from one whose success is text; an event stream has no one schema.

    Said here and not to FastAPI, which would make a validator of its own for each status of each operation.
    """
    description["components"]["schemas"]["ErrorReply"] = ErrorReply.model_json_schema(mode="serialization")
    for operations in description["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) in ERROR_STATUSES:
                    response["content"] = {"application/json": {"schema": {"$ref": ERROR_SCHEMA}}}
                    if int(status) == TooManyRequests.http_status:
                        response["headers"] = RETRY_AFTER
                elif "text/event-stream" in response.get("content", {}):
                    response["content"] = {"text/event-stream": {}}
    return description


class Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = describe_errors(super().openapi())
            add_links(self.openapi_schema)
        return self.openapi_schema


def make_application(
    domain: Domain,
    fleet: Fleet,
    registry: CollectorRegistry | None = None,
    begin_anew: Callable[[], None] = lambda: None,
    page: Page | None = None,
) -> FastAPI:
    """`registry` is what /metrics shows, `page` where the dashboard is reached; `begin_anew` has the daemon end and
    start again within the same process, as after a restore."""
    # Interactive pages would load scripts from elsewhere, and no web page gets in here anyway.
    application = Application(title="volantd", version=__version__, docs_url=None, redoc_url=None)
    install_translator(application)
    application.add_middleware(BodyLimit)
    routers = (
        *(router for resource in RESOURCES for router in resource.make_routers(fleet)),
        backup.make_router(fleet, RESOURCES, begin_anew),
        system.make_router(fleet, domain),
        dashboard.make_router(page or Page()),
        system.make_root_router(registry or make_registry(domain)),
    )
    for router in routers:
        application.router.routes.extend(router.routes)
    return application
