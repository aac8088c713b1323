# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from support.fake_cluster import FakeDaemon, make_pod, make_vm
from volant.kubernetes.access import User
from volant.kubernetes.node_server import NodeServer, _Gate


class FakeAccess:
    def __init__(self, user: User | None, *, allowed: bool = True) -> None:
        self.user, self.allowed = user, allowed
        self.asked: list[tuple[str, str]] = []

    async def find_user(self, certificate: Any, authorization: str) -> User | None:
        return self.user

    async def may(self, user: User, method: str, path: str) -> bool:
        self.asked.append((method, path))
        return self.allowed


def make_client(access: FakeAccess) -> TestClient:
    daemon = FakeDaemon()
    daemon.vms["vm"] = make_vm(name="vm")
    daemon.lines = [{"time": "2026-11-27T11:00:00Z", "stream": "stdout", "line": "said"}]
    worker = cast("Any", SimpleNamespace(name="vm", pod=make_pod()))

    def find(namespace: str, name: str) -> Any:
        return worker if (namespace, name) == ("shop", "web") else None

    server = NodeServer(cast("Any", daemon), "host-1", find, lambda: [worker])
    return TestClient(_Gate(server.make_application(), cast("Any", access)))


@pytest.mark.parametrize(
    ("user", "allowed", "code"), [(None, True, 401), (User("u", ()), False, 403), (User("u", ()), True, 200)]
)
def test_only_who_the_cluster_lets_in(user: User | None, allowed: bool, code: int) -> None:
    client = make_client(FakeAccess(user, allowed=allowed))
    assert client.get("/pods").status_code == code
    assert client.get("/healthz").text == "ok"


def test_what_a_cluster_asks_a_node_for() -> None:
    client = make_client(FakeAccess(User("u", ())))
    assert client.get("/containerLogs/shop/web/web").text == "said\n"
    assert client.get("/containerLogs/shop/other/web").status_code == 404
    assert client.get("/containerLogs/shop/web/web?tailLines=many").status_code == 500
    assert client.get("/pods").json()["items"][0]["metadata"]["name"] == "web"
    assert client.get("/stats/summary").json()["pods"][0]["podRef"]["name"] == "web"
    assert "pod_cpu_usage_seconds_total" in client.get("/metrics/resource").text
