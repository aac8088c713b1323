# SPDX-License-Identifier: Apache-2.0
"""Routers whose routes are from the beginning as the application has them, and are made once.

FastAPI's `include_router` makes each route a second time, and keeps both: a tenth of the daemon's start, 4 MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.routing import APIRoute

PREFIX = "/api/v1"
# Every status that an error of ours has (`volant.errors`), and no other.
ERROR_STATUSES = (400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 507)

# FastAPI asks of every type whether it is a model of pydantic 1. None is, and to load that takes memory for good.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]


def name_operation(route: APIRoute) -> str:
    """A stable name for generated clients: plugins_install, vms_list_vms."""
    return "_".join([*(str(tag) for tag in route.tags), route.name])


class Router(APIRouter):
    def __init__(self, prefix: str = "", *, tags: Sequence[str] = (), base: str = PREFIX) -> None:
        """`base`: what all paths of the API begin with."""
        super().__init__(
            prefix=base + prefix,
            tags=[*tags],
            responses={status: {} for status in ERROR_STATUSES},
            generate_unique_id_function=name_operation,
        )
