# SPDX-License-Identifier: Apache-2.0
"""One address for several VMs: each connection goes to one of those that are ready, to that with the fewest.

A VM that does not take a connection is passed over before the client's first byte was read, so that the client notices
nothing. While none is ready, connections wait for a while: a VM that is replaced costs time and no errors. One that is
to stop is taken out first: connections of HTTP/1.x go on at another between two requests, others get time to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volant.volantd.network.forward import MOST_CONNECTIONS, open_listener
from volant.volantd.network.forward_udp import UdpListener
from volant.volantd.network.movable import MovableSplice
from volant.volantd.network.types import PublishedPort

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
# How long a client that was accepted waits for somebody to be ready.
WAIT_SECONDS = 30.0
# One that took no connection, or ended one without a word, is asked last for so long.
SHUNNED_SECONDS = 2.0
# A connection whose last byte was an answer, so long ago, carries no request: when its VM goes, it is moved or closed.
# Where answers take long, so does what follows their beginning, and twice the slowest one is waited for. That a client
# has begun its next request, or that an answer has all the bytes that it announced, says more than silence.
QUIET_SECONDS = 1.0
DRAIN_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Backend:
    """Where one VM answers for one published port."""

    id: str
    address: tuple[str, int]


class Balancer:
    """All published ports of one deployment."""

    def __init__(self, published: Sequence[PublishedPort]) -> None:
        self.published = tuple(published)
        self._backends: dict[PublishedPort, tuple[Backend, ...]] = {}
        self._changed = asyncio.Event()
        self._open: dict[str, set[MovableSplice]] = {}
        self._places: dict[MovableSplice, str] = {}
        """Where each connection is, or is being, carried to; empty while it waits."""
        self._shunned: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._turns = itertools.count()
        self._listeners: list[asyncio.Server | UdpListener] = []

    async def start(self) -> None:
        """Listen on all ports or on none. Raises as `open_listener` does."""
        try:
            for port in self.published:
                self._listeners.append(await self._listen(port))
        except BaseException:
            self.close()
            raise

    async def _listen(self, port: PublishedPort) -> asyncio.Server | UdpListener:
        async def find_guest() -> tuple[str, int]:
            return (await self._wait_for_backend(port, frozenset())).address

        return await open_listener(port, functools.partial(self._accept, port), find_guest)

    def set_backends(self, backends: Mapping[PublishedPort, Sequence[Backend]]) -> None:
        """From now on new connections go there; those that are open stay where they are."""
        wanted = {port: tuple(found) for port, found in backends.items()}
        if wanted == self._backends:
            return
        self._backends = wanted
        ids = {backend.id for found in wanted.values() for backend in found}
        self._shunned = {identity: until for identity, until in self._shunned.items() if identity in ids}
        for listener in self._listeners:
            if isinstance(listener, UdpListener):
                listener.keep({backend.address for found in wanted.values() for backend in found})
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def count_connections(self, backend_id: str) -> int:
        return len(self._open.get(backend_id, ()))

    async def drain(self, backend_id: str, seconds: float) -> None:
        """Until a VM that was taken out has no connection left. Those on which nobody waits for an answer go on at
        another VM, or are closed where that cannot be; the others when they are answered, or when the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._leaving.add(backend_id)
        try:
            while splices := self._open.get(backend_id):
                now = loop.time()
                for splice in list(splices):
                    _part(splice, now, is_late=now >= deadline)
                await asyncio.sleep(DRAIN_LOOK_SECONDS)
        finally:
            self._leaving.discard(backend_id)
            for splice in list(self._open.get(backend_id, ())):
                splice.stay()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for splice in list(self._places):
            splice.abort()

    def _accept(self, port: PublishedPort) -> asyncio.Protocol:
        splice = MovableSplice(functools.partial(self._dial, port), self._forget)
        self._place(splice, "")
        return splice.near

    def _forget(self, splice: MovableSplice) -> None:
        if splice.was_turned_away:
            # It would have the fewest connections, and be sent all that come.
            self._shun(self._places.get(splice, ""))
        self._place(splice, "")
        self._places.pop(splice, None)

    def _place(self, splice: MovableSplice, backend_id: str) -> None:
        if before := self._places.get(splice):
            self._open[before].discard(splice)
            if not self._open[before]:
                del self._open[before]
        self._places[splice] = backend_id
        if backend_id:
            self._open.setdefault(backend_id, set()).add(splice)

    async def _dial(self, port: PublishedPort, splice: MovableSplice) -> None:
        """Connect a client to who takes it; where nobody does in time, its connection ends."""
        self._place(splice, "")
        if len(self._places) > MOST_CONNECTIONS:
            splice.abort()
            return
        loop = asyncio.get_running_loop()
        tried: set[str] = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    backend = await self._wait_for_backend(port, tried)
                    # From here on it counts: whoever drains waits for it.
                    self._place(splice, backend.id)
                    far = splice.renew_far()
                    try:
                        async with asyncio.timeout(CONNECT_SECONDS):
                            await loop.create_connection(lambda end=far: end, *backend.address)  # type: ignore[misc]
                        return
                    except (OSError, TimeoutError) as error:
                        logger.debug("no answer from %s:%d: %s", *backend.address, error)
                        tried.add(backend.id)
                        self._shun(backend.id)
                        self._place(splice, "")
        splice.abort()

    def _shun(self, backend_id: str) -> None:
        self._shunned[backend_id] = asyncio.get_running_loop().time() + SHUNNED_SECONDS

    async def _wait_for_backend(self, port: PublishedPort, tried: frozenset[str] | set[str]) -> Backend:
        while (found := self._choose(port, tried)) is None:
            # Those that did not take it get another try, once something has changed or after a while.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SHUNNED_SECONDS):
                    await self._changed.wait()
            tried = frozenset()
        return found

    def _choose(self, port: PublishedPort, tried: frozenset[str] | set[str]) -> Backend | None:
        """That with the fewest connections, in turn among equals."""
        passed_over = self._leaving.union(tried)
        candidates = [backend for backend in self._backends.get(port, ()) if backend.id not in passed_over]
        if not candidates:
            return None
        now, turn = asyncio.get_running_loop().time(), next(self._turns)
        rotated = candidates[turn % len(candidates) :] + candidates[: turn % len(candidates)]
        return min(
            rotated,
            key=lambda backend: (
                self._shunned.get(backend.id, 0.0) > now,
                len(self._open.get(backend.id, ())),
            ),
        )


def _part(splice: MovableSplice, now: float, *, is_late: bool) -> None:
    """Have a connection leave its VM, if it can by now."""
    splice.hold_back()
    is_quiet = splice.is_answered and now - splice.active_at >= _find_patience(splice)
    if splice.is_movable and (is_quiet or is_late):
        splice.move()
    elif is_late:
        splice.abort()
    elif is_quiet and not splice.has_unread:
        splice.close()


def _find_patience(splice: MovableSplice) -> float:
    if splice.is_over:
        return 0.0
    return QUIET_SECONDS if splice.has_kept else max(QUIET_SECONDS, 2 * splice.slowest_seconds)
