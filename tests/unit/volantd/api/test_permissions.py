# SPDX-License-Identifier: Apache-2.0
"""The table of rights names every route there is, and no other; each scope gets what it names."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.volantd.api import guests
from volant.volantd.api.permissions import RULES, Need, may_ask
from volant.volantd.opened_state import make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms.fleet import Fleet

OPENAPI = json.loads((Path(__file__).parents[4] / "docs" / "reference" / "openapi.json").read_text())
SCOPES = ("admin", "read", "vm:web", "vm:other")
# Who may, by need, in the order of SCOPES; {name} is "web".
MAY = {
    Need.OPEN: (True, True, True, True),
    Need.READ: (True, True, False, False),
    Need.SEE_VM: (True, True, True, False),
    Need.USE_VM: (True, False, True, False),
    Need.ADMIN: (True, False, False, False),
}


def list_described() -> Iterator[str]:
    yield "GET /openapi.json"
    for path, operations in OPENAPI["paths"].items():
        for method in operations:
            yield f"{'ANY' if '/proxy/' in path else method.upper()} {path.replace('{path}', '{path:path}')}"


def test_every_route_of_the_description_is_in_the_table_and_nothing_else() -> None:
    assert {rule for rule in RULES if not rule.startswith("WEBSOCKET ")} == set(list_described())


def test_every_stream_is_in_the_table_and_nothing_else(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    with contextlib.ExitStack() as stack:
        router = guests.make_router(Fleet(make_domain(settings, MemoryHypervisor(MemoryHost()), stack)))
    streams = {route.path for route in router.routes if isinstance(route, APIWebSocketRoute)}
    assert streams
    assert {f"WEBSOCKET {path}" for path in streams} == {
        rule for rule in RULES if rule.startswith("WEBSOCKET ")
    }
    assert any(isinstance(route, APIRoute) for route in router.routes)


@pytest.mark.parametrize("rule", list(RULES))
def test_each_scope_may_ask_for_what_it_names(rule: str) -> None:
    method, template = rule.split(" ")
    path = template.replace("{path:path}", "a/b").replace("{port}", "80").replace("{architecture}", "amd64")
    path = path.replace("{name}", "web")
    method = "PUT" if method == "ANY" else method
    assert tuple(may_ask(scope, method, path) for scope in SCOPES) == MAY[RULES[rule]]


def test_whatever_changes_something_is_not_for_reading() -> None:
    for rule, need in RULES.items():
        if not rule.startswith("GET "):
            assert need in (Need.USE_VM, Need.ADMIN), rule


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/vms/web/"), ("GET", "/api/v1/vms/web/exec"),
        ("POST", "/api/v1/vms/web"), ("GET", "/api/v1/nothing"),
        ("GET", "//api/v1/vms"), ("GET", "/api/v1/vms/web/../other"), ("TRACE", "/api/v1/vms"),
        ("GET", "/api/v1/vms\n"),
        ("POST", "/api/v1/vms/web/other/start"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_table_is_for_administrators(method: str, path: str) -> None:
    assert [may_ask(scope, method, path) for scope in SCOPES] == [True, False, False, False]


@pytest.mark.parametrize("rights", ["none", "", "vm:", "reader", "ADMIN"])
def test_what_is_no_scope_gets_nothing(rights: str) -> None:
    for path in ("/api/v1/vms", "/api/v1/vms/web", "/api/v1/vms/", "/metrics"):
        assert not may_ask(rights, "GET", path)
    assert may_ask(rights, "HEAD", "/healthz")


def test_head_is_as_get() -> None:
    assert may_ask("read", "HEAD", "/openapi.json")
    assert not may_ask("vm:web", "HEAD", "/openapi.json")
