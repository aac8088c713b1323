# SPDX-License-Identifier: Apache-2.0
"""The whole API as one ASGI application."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import APIRoute

from volant import __version__
from volant.contract.api import ErrorReply
from volant.volantd.api import guests, plugins, secrets, system, vms
from volant.volantd.api.body_limit import BodyLimit
from volant.volantd.api.errors import install_translator
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.fleet import Fleet

PREFIX = "/api/v1"


def name_operation(route: APIRoute) -> str:
    """A stable name for generated clients: plugins_install, vms_list_vms."""
    return "_".join([*(str(tag) for tag in route.tags), route.name])


def make_application(domain: Domain, fleet: Fleet) -> FastAPI:
    # Interactive pages would load scripts from elsewhere, and no web page gets in here anyway.
    application = FastAPI(
        title="volantd",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": ErrorReply}},
        generate_unique_id_function=name_operation,
    )
    install_translator(application)
    application.add_middleware(BodyLimit)
    for router in (
        plugins.make_router(domain.plugins),
        vms.make_router(fleet, domain.events),
        guests.make_router(fleet, domain.plugins),
        secrets.make_router(domain.secrets, domain.registry),
        system.make_router(fleet, domain),
    ):
        application.include_router(router, prefix=PREFIX)
    application.include_router(system.make_root_router(fleet, domain))
    return application
