# SPDX-License-Identifier: Apache-2.0
"""How a client reaches a daemon: through a UNIX socket or loopback TCP, with the standard library alone."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from volant.errors import Unreachable, UsageError

DEFAULT_PORT = 7777
# Given a time-out in seconds (None: none), a connection on which nothing has been asked yet.
Connector = Callable[[float | None], http.client.HTTPConnection]


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection through a UNIX socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def make_connector(address: str, start: Callable[[], None] | None = None) -> Connector:
    """A connector for `address`, a socket's path or http://HOST:PORT.

    `start` starts the daemon that is expected there; it is called once where nobody listens.
    """
    if "://" in address and not address.startswith(("http://", "unix://")):
        raise UsageError(
            f"cannot reach a daemon at {address!r}: only http:// and unix:// are known",
            resolution="name a socket's path or http://127.0.0.1:7777; a tunnel makes a daemon elsewhere local:"
            " ssh -L 7777:127.0.0.1:7777 HOST",
        )

    def connect(timeout: float | None) -> http.client.HTTPConnection:
        try:
            return _open(address, timeout)
        except OSError as error:
            if start is None or not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise Unreachable(
                    f"cannot reach volantd at {address}: {error.strerror or error}",
                    resolution="start it with 'volar daemon start', or name another address with --api",
                ) from error
        start()
        return _open(address, timeout)

    return connect


def _open(address: str, timeout: float | None) -> http.client.HTTPConnection:
    connection: http.client.HTTPConnection
    if address.startswith("http://"):
        try:
            parts = urlsplit(address)
            host, port = parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT
        except ValueError as error:
            raise UsageError(
                f"cannot use the address {address}: {error}", resolution="write it like http://127.0.0.1:7777"
            ) from error
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    else:
        connection = UnixConnection(address.removeprefix("unix://"), timeout)
    connection.connect()
    return connection
