# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from starlette.testclient import TestClient

from support.fake_cluster import FakeDaemon, make_pod, make_vm
from volant.kubernetes.access import User
from volant.kubernetes.node_server import NodeServer, _Gate, _WithCertificate
from volant.kubernetes.pods import NODE_LABEL


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
    daemon.vms["vm"] = make_vm(name="vm", labels={NODE_LABEL: "host-1"})
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


async def test_a_stranger_who_asks_for_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.kubernetes.node_server.FIRST_REQUEST_SECONDS", 0.05)
    client = make_client(FakeAccess(None))
    config = uvicorn.Config(client.app, http=_WithCertificate, lifespan="off", log_level="warning")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)

    def make_protocol() -> _WithCertificate:
        return _WithCertificate(config, server.server_state, {})

    listening = await asyncio.get_running_loop().create_server(make_protocol, "127.0.0.1", 0)
    async with asyncio.timeout(60), listening:
        host, port = listening.sockets[0].getsockname()
        for sent in (b"", b"GET /healthz HTTP/1.1\r\n"):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(sent)
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(3):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            while await reader.readline() != b"\r\n":
                pass
            assert await reader.readexactly(2) == b"ok"
            await asyncio.sleep(0.1)
        writer.close()
