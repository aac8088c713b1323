# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
from pathlib import Path

from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import Route

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.volantd.api.application import make_application
from volant.volantd.api.router import ERROR_STATUSES, Router
from volant.volantd.opened_state import make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms.fleet import Fleet


def test_a_route_has_its_whole_path_and_name_and_the_statuses_of_errors() -> None:
    router = Router("/shelves", tags=["shelves"])

    @router.get("/{name}")
    async def show(name: str) -> str:
        return name

    (route,) = router.routes
    assert isinstance(route, APIRoute)
    assert (route.path, route.unique_id) == ("/api/v1/shelves/{name}", "shelves_show")
    assert set(route.responses) == set(ERROR_STATUSES)


def test_the_application_has_the_routers_own_routes(tmp_path: Path) -> None:
    """None is made again, as by including."""
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    with contextlib.ExitStack() as stack:
        domain = make_domain(settings, MemoryHypervisor(MemoryHost()), stack)
        routes = make_application(domain, Fleet(domain)).routes
    assert {type(route) for route in routes} == {APIRoute, APIWebSocketRoute, Route}
    assert [route.path for route in routes if type(route) is Route] == ["/openapi.json"]
