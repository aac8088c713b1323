# SPDX-License-Identifier: Apache-2.0
"""HTTP over a UNIX socket or loopback TCP, with the standard library alone (httpx alone takes longer to import than a
table command may take).

Replies other than 2xx become the same exceptions that the daemon raised: its error code picks the class, so exit codes
are the same on both sides of the socket.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

import click

from volant import errors
from volant.contract.paths import find_runtime_dir, find_socket, make_private_folder

ERRORS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.VolantError)
}


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection through a UNIX socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """The API at one address. `address`: a socket's path, or http://HOST:PORT."""

    def __init__(self, address: str, token: str | None = None, *, autostart: bool = False) -> None:
        self.address = address
        self.token = token
        self._autostart = autostart

    @property
    def socket_path(self) -> str | None:
        return None if self.address.startswith("http") else self.address.removeprefix("unix://")

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        connection = self._make_connection(timeout)
        try:
            connection.connect()
        except OSError as error:
            if not (self._autostart and isinstance(error, FileNotFoundError | ConnectionRefusedError)):
                raise errors.Unreachable(
                    f"cannot reach volantd at {self.address}: {error.strerror or error}",
                    resolution="start it with 'volar daemon start', or name another address with --api",
                ) from error
            from volant.volar.daemon_start import start_daemon

            start_daemon()
            connection = self._make_connection(timeout)
            connection.connect()
        return connection

    def _make_connection(self, timeout: float | None) -> http.client.HTTPConnection:
        if (path := self.socket_path) is not None:
            return UnixConnection(path, timeout)
        parts = urlsplit(self.address)
        return http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 7777, timeout=timeout)

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        upload: IO[bytes] | Iterator[bytes] | None = None,
        upload_length: int | None = None,
        timeout_seconds: float | None = 60,
    ) -> Iterator[http.client.HTTPResponse]:
        """One request; the reply stays open for streaming. `path` is below /api/v1 unless it starts with "//"."""
        target = path[1:] if path.startswith("//") else f"/api/v1{path}"
        given = {name: value for name, value in (query or {}).items() if value not in (None, "", False)}
        if given:
            target += "?" + urlencode(
                {name: "true" if value is True else value for name, value in given.items()}
            )
        headers = self.headers()
        content: Any = None
        if upload is not None:
            content = upload
            headers["Content-Type"] = "application/gzip"
            if upload_length is not None:
                headers["Content-Length"] = str(upload_length)
        elif body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = self._connect(timeout_seconds)
        try:
            try:
                connection.request(method, target, body=content, headers=headers)
            except (BrokenPipeError, ConnectionResetError):
                # The daemon answered before it read all of an upload: the reply says why.
                pass
            reply = connection.getresponse()
            if not 200 <= reply.status < 300:
                raise read_error(reply.status, reply.read())
            yield reply
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise errors.Unreachable(
                f"cannot finish {method} {target}: volantd at {self.address} went away",
                details=str(error) or type(error).__name__,
                resolution="see 'volar daemon status'; the daemon starts again with the next command",
            ) from error
        finally:
            connection.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request with its whole reply as JSON (None where it is empty)."""
        with self.open(method, path, **options) as reply:
            content = reply.read()
        return json.loads(content) if content else None

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.call("POST", path, body={} if body is None else body, **options)

    def delete(self, path: str, **query: Any) -> Any:
        return self.call("DELETE", path, query=query, timeout_seconds=180)


def read_error(status: int, content: bytes) -> errors.VolantError:
    """The exception that an error reply stands for."""
    try:
        reply = json.loads(content)
        kind = ERRORS.get(reply["code"], errors.VolantError)
        return kind(reply["error"], details=reply.get("details", ()), resolution=reply.get("resolution", ""))
    except (ValueError, KeyError, TypeError):
        text = content.decode("utf-8", "replace").strip()[:500]
        return errors.VolantError(f"volantd answered with HTTP {status}", details=text)


def make_client(context: click.Context, *, autostart: bool = True) -> Client:
    """The client for this command: --api, else VOLANT_API_BASE, else this user's own daemon, started if need be."""
    chosen = context.find_root().obj or os.environ.get("VOLANT_API_BASE")
    token = os.environ.get("VOLANT_TOKEN")
    if chosen:
        return Client(chosen.rstrip("/"), token)
    make_private_folder(find_runtime_dir())  # in one of somebody else's making, anybody might answer
    return Client(str(find_socket()), token, autostart=autostart and "VOLANT_NO_AUTOSTART" not in os.environ)


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")
