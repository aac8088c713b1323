# SPDX-License-Identifier: Apache-2.0
"""Connections that the daemon carries: what one end receives goes out at the other, until both have said all.

Callbacks of the event loop and no tasks: a chunk costs one call, and whoever reads slowly holds up only who writes.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import resource
import socket
import struct
import termios
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, Self, cast

logger = logging.getLogger(__name__)

# What else this process has open, and has to be able to open.
RESERVED_DESCRIPTORS = 256
# Who is gone without a word is noticed after two minutes, and not never.
KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
# close(2) resets the connection, then.
_RESET = struct.pack("ii", 1, 0)


class End(asyncio.Protocol):
    """One of the two; which is which, its splice knows."""

    def __init__(self, splice: Splice) -> None:
        self.transport: asyncio.Transport | None = None
        self.has_ended = False
        """It will say no more; what it is told still arrives (half-closed connections are legal)."""
        self._splice = splice

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._splice.note_open(self)

    def data_received(self, data: bytes) -> None:
        self._splice.carry(self, data)

    def eof_received(self) -> bool:
        self.has_ended = True
        return self._splice.note_eof(self)

    def pause_writing(self) -> None:
        self._splice.hold(self)

    def resume_writing(self) -> None:
        self._splice.let_go(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.has_ended = True
        self._splice.note_lost(self)


class Splice:
    """`near` is a client's end, which was accepted; `far` the other, which `dial` opens meanwhile.

    `dial` has the event loop connect `far`; when it fails the client's connection ends at once, which is all that can
    still be shown. Nothing is read of the client before, so that dialling elsewhere instead loses nothing.
    """

    _count: ClassVar[int] = 0
    """How many there are in this process."""

    def __init__(
        self,
        dial: Callable[[Self], Awaitable[None]],
        on_end: Callable[[Self], None],
        on_traffic: Callable[[], None] = lambda: None,
    ) -> None:
        self.near, self.far = End(self), End(self)
        self.active_at = 0.0
        """By the event loop's clock, when a byte passed last."""
        self.waits_for_far = False
        """Whether the last byte was the client's: it waits for an answer."""
        self.slowest_seconds = 0.0
        """The longest that an answer has taken to begin."""
        self.has_answered = False
        self.was_turned_away = False
        """Whether the far end ended it, and had not said a word."""
        self._loop = asyncio.get_running_loop()
        self._begin = partial(dial, self)
        self._on_end = partial(on_end, self)
        self._on_traffic = on_traffic
        self._dialling: asyncio.Task[None] | None = None
        self._is_over = False
        Splice._count += 1

    def note_open(self, end: End) -> None:
        assert end.transport is not None
        self.active_at = self._loop.time()
        for option in KEEP_ALIVE:
            end.transport.get_extra_info("socket").setsockopt(*option)
        if self._is_over:
            end.transport.abort()
        elif end is self.near and not has_room(Splice._count):
            self.abort()
        elif end is self.near:
            # Not at once: until Python 3.12 what was paused here is read all the same.
            self._loop.call_soon(self._hold_client)
            self._begin_dialling()

    @property
    def is_answered(self) -> bool:
        """Whether nothing is under way that can be seen: the last byte was the far end's, and both have taken all."""
        return not self.waits_for_far and all(
            end.transport is not None and end.transport.get_write_buffer_size() == 0
            for end in (self.near, self.far)
        )

    @property
    def has_unread(self) -> bool:
        """Whether the client has said something that was not taken in yet: closed now, it would be lost."""
        if self.near.transport is None or self.near.transport.is_closing():
            return False
        client = self.near.transport.get_extra_info("socket")
        return any(fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(4)))

    @property
    def is_dialling(self) -> bool:
        return self._dialling is not None and not self._dialling.done()

    def _hold_client(self) -> None:
        if self.is_dialling and self.near.transport is not None:
            self.near.transport.pause_reading()

    def _begin_dialling(self) -> None:
        self._dialling = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            await self._begin()
        except Exception:
            logger.exception("a connection cannot be carried")
            self.abort()
        if self.near.transport is not None and not self._is_over:
            self._go_on()

    def _go_on(self) -> None:
        """The far end is there: the client is listened to."""
        assert self.near.transport is not None
        self.near.transport.resume_reading()

    def renew_far(self) -> End:
        """For another try: the one before may still be told that its connection is lost."""
        self.far = End(self)
        return self.far

    def carry(self, source: End, data: bytes) -> None:
        target = self._find_other(source)
        if target is None or target.transport is None:
            return
        now = self._loop.time()
        if source is self.far and self.waits_for_far:
            self.slowest_seconds = max(self.slowest_seconds, now - self.active_at)
        self.active_at = now
        self.waits_for_far = source is self.near
        self.has_answered = self.has_answered or source is self.far
        self._on_traffic()
        target.transport.write(data)

    def note_eof(self, end: End) -> bool:
        """Whether the connection stays, for what it is still told."""
        self._note_end(end)
        other = self._find_other(end)
        if other is None or other.transport is None or other.has_ended:
            self.close()
            return False
        if other.transport.can_write_eof() and not other.transport.is_closing():
            other.transport.write_eof()
        return True

    def hold(self, end: End) -> None:
        """What goes out there waits: nothing more is taken in on the other side."""
        other = self._find_other(end)
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.pause_reading()

    def let_go(self, end: End) -> None:
        other = self._find_other(end)
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.resume_reading()

    def note_lost(self, end: End) -> None:
        self._note_end(end)
        if end in (self.near, self.far):
            self.close()

    def _note_end(self, end: End) -> None:
        if end is self.far and not (self.near.has_ended or self.has_answered):
            self.was_turned_away = True

    def close(self) -> None:
        """In order: what was taken in still goes out."""
        self._finish(lambda transport: transport.close())

    def abort(self) -> None:
        """At once; where an answer is under way, both see that this was not its end."""
        self._finish(_reset if self.has_answered else lambda transport: transport.abort())

    def _finish(self, end: Callable[[asyncio.Transport], None]) -> None:
        for transport in (self.near.transport, self.far.transport):
            if transport is not None:
                end(transport)
        if self._is_over:
            return
        self._is_over = True
        Splice._count -= 1
        if self._dialling is not None and self._dialling is not asyncio.current_task(self._loop):
            self._dialling.cancel()
        self._on_end()

    def _find_other(self, end: End) -> End | None:
        if end is self.near:
            return self.far
        return self.near if end is self.far else None


def has_room(count: int) -> bool:
    """Whether so many connections, of two descriptors each, leave enough for others."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or 2 * count < most - RESERVED_DESCRIPTORS


def _reset(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
