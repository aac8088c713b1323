# SPDX-License-Identifier: Apache-2.0
"""Who is let in, how far, and what is written down of it: the daemon as a process, by its socket and by TCP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from support.daemon_process import Connection, Daemon, create, start_daemon, wait_until

NOBODY = 65_534


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def daemon(port: int) -> Iterator[Daemon]:
    with start_daemon() as daemon:
        daemon.kill(signal.SIGTERM)
        daemon.start(VOLANT_LISTEN=f"127.0.0.1:{port}")
        wait_until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        create(daemon, "web", start=False)
        create(daemon, "other", start=False)
        yield daemon


def ask(port: int, token: str, method: str, path: str, body: Any = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def make_token(daemon: Daemon, name: str, scope: str) -> str:
    status, made = daemon.call("POST", "/tokens", {"name": name, "scope": scope, "lifetime_seconds": 3600})
    assert status == 201, made
    return str(made["token"])


def test_a_token_opens_what_its_scope_names_and_nothing_else(daemon: Daemon, port: int) -> None:
    reader, one = make_token(daemon, "reader", "read"), make_token(daemon, "one", "vm:web")
    assert [ask(port, reader, "GET", path) for path in ("/vms", "/vms/web", "/secrets")] == [200, 200, 200]
    assert ask(port, reader, "POST", "/vms/web/stop") == 403
    assert ask(port, reader, "POST", "/tokens", {"name": "mine", "scope": "admin"}) == 403
    assert ask(port, one, "GET", "/vms/web") == 200
    assert [ask(port, one, "GET", path) for path in ("/vms", "/vms/other", "/tokens")] == [403, 403, 403]
    assert ask(port, one, "POST", "/vms/web/stop") == 409
    assert ask(port, one, "DELETE", "/vms/web") == 403
    assert ask(port, make_token(daemon, "all", "admin"), "GET", "/tokens") == 200


def test_a_token_that_was_rotated_or_deleted_ends(daemon: Daemon, port: int) -> None:
    old = make_token(daemon, "ci", "read")
    assert daemon.call("POST", "/tokens/ci/rotate", {"overlap_seconds": 3600})[0] == 200
    assert ask(port, old, "GET", "/vms") == 200
    new = daemon.call("POST", "/tokens/ci/rotate", {"overlap_seconds": 0})[1]["token"]
    assert (ask(port, old, "GET", "/vms"), ask(port, new, "GET", "/vms")) == (401, 200)
    assert daemon.call("DELETE", "/tokens/ci")[0] == 204
    assert ask(port, new, "GET", "/vms") == 401


def test_a_token_narrows_what_the_socket_would_allow(daemon: Daemon) -> None:
    narrow = {"Authorization": f"Bearer {make_token(daemon, 'narrow', 'read')}"}
    assert daemon.call("GET", "/vms", **narrow)[0] == 200
    assert daemon.call("POST", "/vms/web/stop", b"", **narrow)[0] == 403
    # One of another daemon, as VOLANT_TOKEN may hold it, is nothing here.
    assert daemon.call("GET", "/vms", Authorization="Bearer of-another-daemon")[0] == 200


def test_a_stream_wants_the_rights_too(daemon: Daemon, port: int) -> None:
    upgrade = (
        "GET /api/v1/vms/web/console HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Authorization: Bearer {make_token(daemon, 'watcher', 'read')}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(upgrade.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_answered_even_where_the_sockets_mode_lets_in(daemon: Daemon) -> None:
    for folder in (daemon.home, daemon.socket.parent):
        folder.chmod(0o711)
    daemon.socket.chmod(0o666)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        connection = Connection(daemon.socket)
        connection.request("GET", "/api/v1/vms")
        reply = connection.getresponse()
        os.write(writing, f"{reply.status} {reply.read().decode()}".encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 4096).decode()
    os.close(reading)
    os.waitpid(child, 0)
    daemon.socket.chmod(0o600)
    assert said.startswith("403")
    assert f"cannot answer user {NOBODY}: this volantd is another user's" in said
    assert daemon.call("GET", "/vms")[0] == 200


def test_changes_are_audited_with_the_id_that_the_log_has_too(daemon: Daemon) -> None:
    connection = Connection(daemon.socket)
    connection.request("POST", "/api/v1/vms/web/stop", headers={"X-Request-Id": "audit-1"})
    reply = connection.getresponse()
    assert (reply.status, reply.headers["X-Request-Id"]) == (409, "audit-1")
    assert json.loads(reply.read())["request_id"] == "audit-1"
    connection.close()
    entry = daemon.call("GET", "/system/audit?target=web")[1][-1]
    assert (entry["request_id"], entry["who"], entry["action"]) == (
        "audit-1",
        f"uid {os.geteuid()}",
        "vms_stop",
    )
    assert (entry["status"], entry["error"]) == (409, "wrong_state")
    assert (daemon.home / "audit.log").stat().st_mode & 0o777 == 0o600
    created = daemon.call("GET", "/system/audit?target=other")[1][0]
    assert (created["action"], created["status"]) == ("vms_create", 201)


def test_prometheus_gets_routes_and_states_and_no_names(daemon: Daemon) -> None:
    daemon.call("GET", "/vms/web")
    status, text = daemon.call("GET", "/metrics", prefix="")
    lines = text.decode()
    assert status == 200
    assert 'volant_vms{state="created"} 2.0' in lines
    assert re.search(
        r'volant_api_requests_total\{method="GET",route="/vms/\{name\}",status="2xx"\} [0-9]+', lines
    )
    assert "web" not in re.sub(r"websocket", "", lines, flags=re.IGNORECASE)
