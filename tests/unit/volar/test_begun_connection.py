# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import socket
from pathlib import Path

import pytest

from volant.client.connection import UnixConnection
from volant.volar.begun_connection import BegunConnection, make_begun_connector
from volant.volar.early_request import EarlyRequest

REPLY = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


def test_who_asks_for_what_was_sent_has_its_reply(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(REPLY)
        connection = BegunConnection(
            EarlyRequest("/vms/a/fork", {"names": ["b"]}, ours), str(tmp_path / "s"), 5
        )
        connection.request("POST", "/api/v1/vms/a/fork", body=b'{"names": ["b"]}')
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (201, b"{}")
        connection.close()


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/api/v1/vms/a/fork", None),
        ("POST", "/api/v1/vms/b/fork", b'{"names": ["b"]}'),
        ("POST", "/api/v1/vms/a/fork", b'{"names": ["c"]}'),
    ],
)
def test_who_asks_for_anything_else_asks_anew(
    method: str, target: str, body: bytes | None, tmp_path: Path
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        begun = EarlyRequest("/vms/a/fork", {"names": ["b"]}, ours)
        connection = BegunConnection(begun, str(tmp_path / "nobody"), 5)
        with pytest.raises(FileNotFoundError):
            connection.request(method, target, body=body)
        assert theirs.recv(1) == b""


def test_only_the_first_connection_is_one(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        usual = UnixConnection(str(tmp_path / "s"), 5)

        def connect(timeout: float | None) -> http.client.HTTPConnection:
            return usual

        connector = make_begun_connector(
            EarlyRequest("/vms/a/resume", {}, ours), str(tmp_path / "s"), connect
        )
        assert isinstance(connector(5), BegunConnection)
        assert connector(5) is usual
