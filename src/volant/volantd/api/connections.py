# SPDX-License-Identifier: Apache-2.0
"""How many connections a listener holds and how long one may take to say what it wants.

A client that opens connections and says nothing must not take the descriptors that everybody else's need: each
listener has a number of its own, so that loopback TCP, which any user of the host may reach, never closes the UNIX
socket. Beyond it connections are accepted and closed at once; log lines that repeat are counted instead of written.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import struct
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger(__name__)

HEADER_SECONDS = 10.0
MOST_HEADER_BYTES = 64 * 1024
# Descriptors that are not for connections: the database, VMs' sockets, logs.
RESERVED_DESCRIPTORS = 256
MOST_TCP_CONNECTIONS = 256
MOST_UNIX_CONNECTIONS = 1024
REPEAT_SECONDS = 60.0
MOST_REMEMBERED = 1000


def raise_descriptor_limit() -> int:
    """Let this process have as many descriptors as it may; returns their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def choose_limit(descriptors: int, *, is_tcp: bool) -> int:
    """The connections of one listener. All of them together leave the reserve free, whatever the host allows."""
    free = max(16, descriptors - RESERVED_DESCRIPTORS)
    return min(MOST_TCP_CONNECTIONS, free // 4) if is_tcp else min(MOST_UNIX_CONNECTIONS, free // 2)


def make_protocol(limit: int, header_seconds: float = HEADER_SECONDS) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol with a listener's limits."""

    class LimitedProtocol(HttpToolsProtocol):
        _header_timer: asyncio.TimerHandle | None = None
        _header_bytes = 0
        _is_past_headers = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
            super().connection_made(transport)
            if len(self.connections) > limit:
                logger.warning("refused a connection: %d are open, which is the most", limit)
                transport.abort()
                return
            if (uid := find_peer(transport)) is not None:
                self.app_state = {**self.app_state, "uid": uid}
            self._start_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            # Empty lines begin no request, and end uvicorn's own limit of the time between two.
            self._start_timer()
            # Before it is parsed: where a body ends in this read, none of it was a header.
            self._header_bytes += 0 if self._is_past_headers else len(data)
            super().data_received(data)
            if self._header_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The request's header is larger than {MOST_HEADER_BYTES >> 10} KiB.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._is_past_headers = False
            self._start_timer()

        def on_headers_complete(self) -> None:
            self._is_past_headers = True
            self._header_bytes = 0
            self._stop_timer()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._is_past_headers = False
            self._header_bytes = 0

        def _start_timer(self) -> None:
            if self._header_timer is None and not self._is_past_headers:
                self._header_timer = self.loop.call_later(header_seconds, self._expire)

        def _stop_timer(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _expire(self) -> None:
            self._header_timer = None
            self.transport.abort()

    return LimitedProtocol


def find_peer(transport: asyncio.Transport) -> int | None:
    """The user at the other end of a UNIX socket, by the kernel's word (unix(7), SO_PEERCRED)."""
    found: socket.socket | None = transport.get_extra_info("socket")
    if found is None or found.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack(
        "3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return int(uid)


class RepeatFilter(logging.Filter):
    """Lets a message through once a minute (whatever its arguments), with the number of those held back meanwhile."""

    def __init__(self, seconds: float = REPEAT_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR and record.name != "asyncio":
            return True  # a fault of ours: never lost
        key, now = str(record.msg), time.monotonic()
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.clear()
        since, held_back = self._seen.get(key, (-self._seconds, 0))
        if now - since < self._seconds:
            self._seen[key] = (since, held_back + 1)
            return False
        self._seen[key] = (now, 0)
        if held_back:
            record.msg = f"{record.msg} ({held_back} more like this)"
        return True


def limit_repeats() -> None:
    """For the loggers whose lines a stranger can cause."""
    for name in (__name__, "uvicorn.error", "asyncio"):
        target = logging.getLogger(name)
        if not any(isinstance(found, RepeatFilter) for found in target.filters):
            target.addFilter(RepeatFilter())
