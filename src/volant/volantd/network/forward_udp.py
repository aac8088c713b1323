# SPDX-License-Identifier: Apache-2.0
"""Published UDP ports that the daemon holds: one socket toward the guest for each client, for as long as they talk.

So the guest's answers find their client, as they do behind a NAT. Whoever sends decides how many clients there seem to
be: beyond a limit the one that was silent longest makes room.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from volant.errors import VolantError

IDLE_SECONDS = 60.0
MOST_CLIENTS = 1024
# Datagrams that wait while the socket toward the guest is made.
MOST_WAITING = 16

Address = tuple[str, int]
OpenSocket = Callable[[int], Awaitable[socket.socket]]


async def open_here(kind: int) -> socket.socket:
    return socket.socket(socket.AF_INET, kind)


class UdpListener(asyncio.DatagramProtocol):
    """What the host's socket receives, carried to one port of the guest."""

    def __init__(
        self, find_guest: Callable[[], Awaitable[Address]], open_socket: OpenSocket = open_here
    ) -> None:
        """`find_guest` says where a client's datagrams go, and is waited for before the first of them does."""
        self._find_guest = find_guest
        self._open_socket = open_socket
        self._transport: asyncio.DatagramTransport | None = None
        self._clients: OrderedDict[Address, _Client] = OrderedDict()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # of its kind
        self._transport = transport

    def datagram_received(self, data: bytes, peer: Address) -> None:
        assert self._transport is not None
        client = self._clients.get(peer)
        if client is None:
            while len(self._clients) >= MOST_CLIENTS:
                self._clients.popitem(last=False)[1].close()
            client = self._clients[peer] = _Client(
                self, self._transport, peer, self._find_guest, self._open_socket
            )
        client.send(data)

    def keep(self, guests: Collection[Address]) -> None:
        """Clients of other guests find a new one with their next datagram."""
        for peer, client in list(self._clients.items()):
            if client.guest is not None and client.guest not in guests:
                self.forget(peer)

    def touch(self, peer: Address) -> None:
        self._clients.move_to_end(peer)

    def forget(self, peer: Address) -> None:
        client = self._clients.pop(peer, None)
        if client is not None:
            client.close()

    def close(self) -> None:
        for peer in list(self._clients):
            self.forget(peer)
        if self._transport is not None:
            self._transport.close()


class _Client(asyncio.DatagramProtocol):
    """One client's own socket toward the guest."""

    def __init__(
        self,
        listener: UdpListener,
        back: asyncio.DatagramTransport,
        peer: Address,
        find_guest: Callable[[], Awaitable[Address]],
        open_socket: OpenSocket,
    ) -> None:
        self.guest: Address | None = None
        self._listener, self._back, self._peer = listener, back, peer
        self._waiting: list[bytes] = []
        self._toward: asyncio.DatagramTransport | None = None
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_SECONDS, listener.forget, peer)
        self._opening = loop.create_task(self._open(find_guest, open_socket))

    async def _open(self, find_guest: Callable[[], Awaitable[Address]], open_socket: OpenSocket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError, TimeoutError, VolantError):
            self.guest = await find_guest()
            opened = await open_socket(socket.SOCK_DGRAM)
            opened.setblocking(False)
            opened.connect(self.guest)
            self._toward, _ = await loop.create_datagram_endpoint(lambda: self, sock=opened)
            for data in self._waiting:
                self._toward.sendto(data)
            return
        self._listener.forget(self._peer)

    def send(self, data: bytes) -> None:
        self._stay()
        if self._toward is not None:
            self._toward.sendto(data)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting.append(data)

    def datagram_received(self, data: bytes, _guest: Address) -> None:
        self._stay()
        self._back.sendto(data, self._peer)

    def error_received(self, _error: Exception) -> None:
        """Nobody listens there yet: the next datagram may find somebody."""

    def _stay(self) -> None:
        self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._listener.forget, self._peer)
        self._listener.touch(self._peer)

    def close(self) -> None:
        self._idle.cancel()
        self._opening.cancel()
        if self._toward is not None:
            self._toward.close()
