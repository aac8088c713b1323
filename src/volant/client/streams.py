# SPDX-License-Identifier: Apache-2.0
"""Byte streams through the API's WebSockets: to a guest's SSH server, a port of it, or its console."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from volant.client.client import Client, read_error
from volant.errors import Unreachable, VolantError

CHUNK_BYTES = 1 << 16


@contextmanager
def open_stream(client: Client, path: str) -> Iterator[ClientConnection]:
    """A WebSocket below /api/v1 whose binary messages are the stream's bytes."""
    # Neither compression nor pings: the bytes are encrypted already, and the daemon may be suspended with its host.
    connection = client.connect(30)
    try:
        connection.sock.settimeout(None)
        opened = connect(
            f"ws://localhost/api/v1{path}", sock=connection.sock, compression=None, max_size=None,
            ping_interval=None, proxy=None, additional_headers=client.headers(), open_timeout=30,
        )  # fmt: skip
    except InvalidStatus as error:
        raise read_error(error.response.status_code, bytes(error.response.body or b"")) from error
    except (OSError, TimeoutError, EOFError) as error:
        raise Unreachable(f"cannot reach volantd at {client.address}: {error}") from error
    with opened:
        yield opened


def pump(stream: ClientConnection, read_fd: int, write_fd: int) -> None:
    """Carry bytes both ways until the far end closes; our own end-of-file is sent as an empty text message."""

    def send() -> None:
        with suppress(ConnectionClosed, OSError):
            while chunk := os.read(read_fd, CHUNK_BYTES):
                stream.send(chunk)
            stream.send("")

    threading.Thread(target=send, daemon=True).start()
    # Whoever reads may be gone, as a killed ssh is: then there is nothing left to carry.
    with suppress(ConnectionClosed, BrokenPipeError, ConnectionResetError):
        for message in stream:
            if isinstance(message, str):
                continue
            view = memoryview(message)
            while view:
                view = view[os.write(write_fd, view) :]


def carry(stream: ClientConnection, connection: socket.socket) -> None:
    """Carry bytes both ways until the far end closes, and tell `connection` of that."""
    pump(stream, connection.fileno(), connection.fileno())
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def serve_forward(client: Client, path: str, listener: socket.socket, tell: Callable[[str], None]) -> None:
    """Give every connection that `listener` accepts a stream of its own, until interrupted; `tell` why one failed."""

    def serve(connection: socket.socket) -> None:
        try:
            with connection, open_stream(client, path) as stream:
                pump(stream, connection.fileno(), connection.fileno())
        except (VolantError, OSError) as error:
            tell(str(error))

    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=serve, args=(accepted,), daemon=True).start()
