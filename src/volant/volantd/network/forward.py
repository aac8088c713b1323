# SPDX-License-Identifier: Apache-2.0
"""Published ports that are ours to hold: a listener that carries bytes to where the VM's ports are.

Those of bridged VMs, since a rule of the packet filter would be no help on loopback (it needs `route_localnet`, a
host-wide setting), of VMs on the shared network, and of VMs that sleep when they are idle: whoever connects is
accepted, the VM is woken, and nobody sees a refused connection.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from volant.errors import Conflict, InvalidInput, NotPermitted, VolantError
from volant.volantd.network.forward_udp import OpenSocket, UdpListener, open_here
from volant.volantd.network.splice import Splice
from volant.volantd.network.types import PublishedPort

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
# How many may wait to be accepted: a VM that wakes is often waited for by many.
BACKLOG = 1024
# Of one port's clients together, at the same time: nobody takes the room of all.
MOST_CONNECTIONS = 8192

Target = tuple[str, int]


class PortForwarder:
    """The published ports of one VM. Use as an asynchronous context manager, or `start` and `close`.

    `find_target` says where the host reaches the guest's end of a published port. `reach` is waited for before that is
    connected to; its failure ends the client's connection. `open_socket` makes the sockets toward the guest, of a kind.
    """

    def __init__(
        self,
        published: Sequence[PublishedPort],
        find_target: Callable[[PublishedPort], Target],
        reach: Callable[[], Awaitable[None]] | None = None,
        open_socket: OpenSocket = open_here,
    ) -> None:
        self.active_at = 0.0
        """When somebody connected or a byte passed last, by the event loop's clock."""
        self._published = published
        self._find_target = find_target
        self._reach = reach or _reach_at_once
        self._open_socket = open_socket
        self._listeners: list[asyncio.Server | UdpListener] = []
        self._splices: set[Splice] = set()

    async def start(self) -> None:
        """Open all listeners or none. Conflict for a port in use, NotPermitted for one below 1024 without
        root."""
        try:
            for port in self._published:
                self._listeners.append(await self._listen(port))
        except BaseException:
            await self.close()
            raise

    async def _listen(self, port: PublishedPort) -> asyncio.Server | UdpListener:
        async def dial(splice: Splice) -> None:
            if len(self._splices) > MOST_CONNECTIONS:
                splice.abort()
                return
            try:
                target = await self._find_guest(port)
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connect(splice, target)
            except (OSError, TimeoutError, VolantError) as error:
                # The client was accepted already: all it can still be shown is a connection that ends at once.
                logger.debug("no answer from port %d: %s", port.guest_port, error)
                splice.abort()

        def accept() -> asyncio.Protocol:
            splice = Splice(dial, self._splices.discard, self._note_traffic)
            self._splices.add(splice)
            return splice.near

        return await open_listener(port, accept, lambda: self._find_guest(port), self._open_socket)

    async def _connect(self, splice: Splice, target: Target) -> None:
        loop = asyncio.get_running_loop()
        opened = await self._open_socket(socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            await loop.sock_connect(opened, target)
            await loop.create_connection(splice.renew_far, sock=opened)
        except BaseException:
            opened.close()
            raise

    async def _find_guest(self, port: PublishedPort) -> Target:
        """Where it is, once it can be reached there."""
        self._note_traffic()
        await self._reach()
        return self._find_target(port)

    def _note_traffic(self) -> None:
        self.active_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for splice in list(self._splices):
            splice.abort()

    async def __aenter__(self) -> PortForwarder:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _reach_at_once() -> None:
    """It is there."""


async def open_listener(
    port: PublishedPort,
    accept: Callable[[], asyncio.Protocol],
    find_guest: Callable[[], Awaitable[Target]],
    open_socket: OpenSocket = open_here,
) -> asyncio.Server | UdpListener:
    """Listen on a published port: `accept` makes the end of each client that connects, `find_guest` says where a
    client's datagrams go. Raises Conflict, NotPermitted, InvalidInput."""
    where = f"{port.host_ip}:{port.host_port}"
    loop = asyncio.get_running_loop()
    try:
        if port.protocol == "udp":
            listener = UdpListener(find_guest, open_socket)
            await loop.create_datagram_endpoint(lambda: listener, local_addr=(port.host_ip, port.host_port))
            return listener
        return await loop.create_server(accept, port.host_ip, port.host_port, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"cannot publish port {port.guest_port} on {where}: the port is in use",
                resolution=f"choose another one, or see who has it: ss -ltunp 'sport = :{port.host_port}'",
            ) from error
        if error.errno == errno.EACCES:
            raise NotPermitted(
                f"cannot publish port {port.guest_port} on {where}: ports below 1024 need root"
            ) from error
        raise InvalidInput(f"cannot publish port {port.guest_port} on {where}: {error.strerror}") from error
