# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import pytest
from lightkube.models.core_v1 import Container, Probe

from volant.errors import Unreachable
from volant.kubernetes.probes import attempt, check_probe
from volant.kubernetes.references import Refused

CONTAINER = cast(
    "Container", Container.from_dict({"name": "web", "ports": [{"name": "http", "containerPort": 80}]})
)


class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/": 200, "/moved": 302, "/health": 200 if self.headers["X-Probe"] == "yes" else 403}
        self.send_response(status.get(self.path, 500))
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Guest:
    """A VM's ports, and commands in it; both as Client and as AsyncClient have them."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports
        self.client = self.Plain(self)

    def connect(self, port: int) -> socket.socket:
        if port not in self._ports:
            raise Unreachable(f"cannot reach port {port}: connection refused")
        return socket.create_connection(("127.0.0.1", self._ports[port]))

    class Plain:
        def __init__(self, guest: Guest) -> None:
            self._guest = guest

        @contextmanager
        def open_port(self, vm: str, port: int) -> Iterator[socket.socket]:
            with self._guest.connect(port) as connected:
                yield connected

    @asynccontextmanager
    async def open_port(self, vm: str, port: int) -> AsyncIterator[socket.socket]:
        with self.connect(port) as connected:
            yield connected

    async def exec(self, vm: str, command: list[str], *, timeout_seconds: float) -> dict[str, Any]:
        return {"exit_code": int(command[0]), "stdout": "said ", "stderr": "why"}


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield Guest({80: server.server_address[1], 81: silent.getsockname()[1]})
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ({"httpGet": {"port": "http"}}, ""),
        ({"httpGet": {"port": 80, "path": "moved"}}, ""),
        ({"httpGet": {"port": 80, "path": "/health"}}, "HTTP status 403"),
        ({"httpGet": {"port": 80, "path": "/health", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}}, ""),
        ({"httpGet": {"port": 80, "path": "/broken"}}, "HTTP status 500"),
        ({"httpGet": {"port": 80, "path": "/a\r\nX-Other: b"}}, "URL can't contain control characters"),
        ({"httpGet": {"port": 82}}, "connection refused"),
        ({"httpGet": {"port": 81}}, "no answer within 1 s"),
        ({"tcpSocket": {"port": "http"}}, ""),
        ({"tcpSocket": {"port": 82}}, "connection refused"),
        ({"exec": {"command": ["0"]}}, ""),
        ({"exec": {"command": ["7"]}}, "exit status 7: said why"),
    ],
)  # fmt: skip
async def test_what_an_attempt_finds(guest: Guest, probe: dict[str, Any], problem: str) -> None:
    found = await attempt(cast("Any", guest), "web", CONTAINER, cast("Probe", Probe.from_dict(probe)))
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ({"grpc": {"port": 80}}, "gRPC"),
        ({"httpGet": {"port": 80, "host": "127.0.0.1"}}, "the host 127.0.0.1"),
        ({"tcpSocket": {"port": "other"}}, "the port other"),
    ],
)
def test_what_is_not_probed_is_refused(probe: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        check_probe(CONTAINER, cast("Probe", Probe.from_dict(probe)))
