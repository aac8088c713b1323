# SPDX-License-Identifier: Apache-2.0
"""Where volantd is asked: its UNIX socket, loopback TCP with a token, and the servers at them."""

from __future__ import annotations

import contextlib
import grp
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from volant.errors import Conflict, InvalidInput
from volant.volantd.api.connections import (
    make_protocol,
)
from volant.volantd.settings import Settings
from volant.whole_file import write_whole_file

CLOSING_SECONDS = 2


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: two of them run side by side, and the daemon ends both."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(application: ASGIApp, settings: Settings, most_connections: int) -> Server:
    return Server(
        uvicorn.Config(
            application,
            http=make_protocol(most_connections),
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level=settings.log_level,
            ws="websockets-sansio",
            ws_max_size=1 << 24,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=CLOSING_SECONDS,
            server_header=False,
            date_header=False,
        )
    )


def open_listeners(settings: Settings, stack: contextlib.ExitStack) -> list[tuple[socket.socket, str | None]]:
    """The UNIX socket, and loopback TCP with its token where asked."""
    listeners: list[tuple[socket.socket, str | None]] = [(open_unix_socket(settings, stack), None)]
    if settings.listen is not None:
        token = settings.token or read_token(settings.state_dir / "token")
        host, _, port = settings.listen.rpartition(":")
        try:
            listener = socket.create_server((host.strip("[]"), int(port)), family=_family(host))
        except OSError as error:
            raise Conflict(f"cannot listen on {settings.listen}: {error.strerror or error}") from error
        stack.callback(listener.close)
        listeners.append((listener, token))
    return listeners


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def open_unix_socket(settings: Settings, stack: contextlib.ExitStack) -> socket.socket:
    path = settings.socket
    path.unlink(missing_ok=True)  # we hold the lock: whoever bound it is gone
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stack.callback(listener.close)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if settings.socket_group is not None:
        try:
            group = grp.getgrnam(settings.socket_group).gr_gid
        except KeyError:
            raise InvalidInput(
                f"cannot give the socket to group {settings.socket_group}: no such group"
            ) from None
        os.chown(path, -1, group)
        path.chmod(0o660)
        settings.runtime_dir.chmod(0o711)
    listener.listen(128)
    inode = path.stat().st_ino

    def remove() -> None:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode:
                path.unlink()

    stack.callback(remove)
    return listener


def read_token(path: Path) -> str:
    """The token that TCP clients show; made at first use, readable by this user alone.

    An empty file, as a host that lost its power may leave, is none: it would let in whoever shows nothing.
    """
    if path.exists() and (token := path.read_text().strip()):
        return token
    token = secrets.token_urlsafe(32)
    write_whole_file(path, f"{token}\n".encode(), mode=0o600)
    return token
