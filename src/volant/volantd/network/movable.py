# SPDX-License-Identifier: Apache-2.0
"""Connections whose far end can become another one between two requests of HTTP/1.x, unnoticed by the client.

While one holds back, the client's next request stays here, for the server that comes after this one. So a client that
asks without a pause loses nothing, either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from volant.volantd.network.http_turns import HttpTurns
from volant.volantd.network.splice import End, Splice


class MovableSplice(Splice):
    def __init__(self, dial: Callable[[Self], Awaitable[None]], on_end: Callable[[Self], None]) -> None:
        super().__init__(dial, on_end)
        self._turns = HttpTurns()
        self._holds_back = False
        self._kept = b""

    @property
    def is_answered(self) -> bool:
        return super().is_answered and not self._turns.awaits_more

    @property
    def is_over(self) -> bool:
        """Whether nothing can be under way, for certain."""
        return self.is_answered and self._turns.is_over

    @property
    def has_kept(self) -> bool:
        """Whether the client has begun its next request: one that waits for each answer has this one, then."""
        return bool(self._kept)

    @property
    def is_movable(self) -> bool:
        """Whether the far end may become another one, once all is quiet. An answer whose end cannot be told goes on,
        perhaps, with the next event: who waits for that has to see its end."""
        has_ended = self.near.has_ended or self.far.has_ended
        return not has_ended and (self.is_over or (self.is_answered and self.has_kept))

    def hold_back(self) -> None:
        """From now on the client's next request waits."""
        self._holds_back = True

    def stay(self) -> None:
        """Where it is, after all."""
        self._holds_back = False
        if self._kept and self.far.transport is not None:
            self._go_on()

    def move(self) -> None:
        """Dial again, and go on there."""
        assert self.near.transport is not None
        before, self.far = self.far, End(self)
        if before.transport is not None:
            before.transport.close()
        self.near.transport.pause_reading()
        self._holds_back = self.has_answered = False
        self._begin_dialling()

    def carry(self, source: End, data: bytes) -> None:
        if source is self.near:
            if self._must_keep(data):
                assert self.near.transport is not None
                self.near.transport.pause_reading()
                self._kept += data
                return
            self._turns.note_client(data)
        elif source is self.far:
            self._turns.note_server(data)
        super().carry(source, data)

    def _must_keep(self, data: bytes) -> bool:
        if self._kept or self.far.transport is None:
            return True
        return self._holds_back and self._turns.may_begin(data)

    def _go_on(self) -> None:
        super()._go_on()
        kept, self._kept = self._kept, b""
        if kept:
            self.carry(self.near, kept)

    def note_eof(self, end: End) -> bool:
        if self._is_left_with_kept(end):
            self.move()
            return False
        return super().note_eof(end)

    def note_lost(self, end: End) -> None:
        if self._is_left_with_kept(end):
            self.move()
        else:
            super().note_lost(end)

    def _is_left_with_kept(self, end: End) -> bool:
        return end is self.far and self.has_kept and not (self.near.has_ended or self.is_dialling)
