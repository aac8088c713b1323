# SPDX-License-Identifier: Apache-2.0
"""A request that was sent before there was anybody to read its reply (`early_request`), in the form of a connection."""

from __future__ import annotations

import http.client
import json
from typing import Any

from volant.client.connection import Connector, UnixConnection
from volant.volar.early_request import EarlyRequest


class BegunConnection(UnixConnection):
    """Asked for just what was sent it has the reply of that; asked for anything else it is an ordinary one."""

    def __init__(self, begun: EarlyRequest, path: str, timeout: float | None) -> None:
        super().__init__(path, timeout)
        self._begun = begun
        self._is_sent = False

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        begun = self._begun
        self._is_sent = (method, url) == ("POST", begun.target) and json.loads(body or b"{}") == begun.body
        if self._is_sent:
            self.sock = begun.stream
            self.sock.settimeout(self.timeout)
        else:
            begun.stream.close()
            super().request(method, url, body, headers or {}, **options)

    def getresponse(self) -> http.client.HTTPResponse:
        if not self._is_sent:
            return super().getresponse()
        reply = http.client.HTTPResponse(self.sock, method="POST")
        reply.begin()
        return reply


def make_begun_connector(begun: EarlyRequest, path: str, connect: Connector) -> Connector:
    """`connect`, but for the first connection."""
    begun_connections = iter((begun,))

    def connect_begun(timeout: float | None) -> http.client.HTTPConnection:
        if (first := next(begun_connections, None)) is not None:
            return BegunConnection(first, path, timeout)
        return connect(timeout)

    return connect_begun
