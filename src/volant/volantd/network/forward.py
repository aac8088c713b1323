# SPDX-License-Identifier: Apache-2.0
"""Published ports that the daemon holds: a listener of its own that carries bytes to where the VM's ports are.

Those of bridged VMs, since a rule of the packet filter would be no help on loopback (it needs `route_localnet`, a
host-wide setting), and those of VMs that sleep when they are idle: whoever connects is accepted, the VM is woken, and
nobody sees a refused connection. These listeners end with the daemon and come back when it adopts the VM.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from volant.errors import Conflict, InvalidInput, NotPermitted, VolantError
from volant.volantd.network.forward_udp import OpenSocket, UdpListener, open_here
from volant.volantd.network.types import PublishedPort
from volant.volantd.tasks import end_tasks

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16
CONNECT_SECONDS = 10.0
# How many may wait to be accepted: a VM that wakes is often waited for by many.
BACKLOG = 1024

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
        self._servers: list[asyncio.Server | UdpListener] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open all listeners or none. Conflict for a port in use, NotPermitted for one below 1024 without
        root."""
        try:
            for port in self._published:
                self._servers.append(await self._listen(port))
        except BaseException:
            await self.close()
            raise

    async def _listen(self, port: PublishedPort) -> asyncio.Server | UdpListener:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                await self._carry(self._find_target(port), reader, writer)
            finally:
                self._connections.discard(task)

        where = f"{port.host_ip}:{port.host_port}"
        try:
            if port.protocol == "udp":
                listener = UdpListener(self._find_target(port), self._reach_for_datagrams, self._open_socket)
                loop = asyncio.get_running_loop()
                await loop.create_datagram_endpoint(
                    lambda: listener, local_addr=(port.host_ip, port.host_port)
                )
                return listener
            return await asyncio.start_server(serve, port.host_ip, port.host_port, backlog=BACKLOG)
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
            raise InvalidInput(
                f"cannot publish port {port.guest_port} on {where}: {error.strerror}"
            ) from error

    async def _carry(
        self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._note_traffic()
        try:
            await self._reach()
            async with asyncio.timeout(CONNECT_SECONDS):
                guest_reader, guest_writer = await self._connect(target)
        except (OSError, TimeoutError, VolantError) as error:
            # The client was accepted already: all it can still be shown is a connection that ends at once.
            logger.debug("no answer from %s:%d: %s", *target, error)
            writer.transport.abort()
            return
        try:
            await asyncio.gather(self._copy(reader, guest_writer), self._copy(guest_reader, writer))
        except OSError:
            pass
        finally:
            writer.close()
            guest_writer.close()

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = await self._open_socket(socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, target)
            return await asyncio.open_connection(sock=opened)
        except BaseException:
            opened.close()
            raise

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction until its end; the other may go on (half-closed connections are legal)."""
        while chunk := await reader.read(CHUNK_BYTES):
            self._note_traffic()
            writer.write(chunk)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    async def _reach_for_datagrams(self) -> None:
        self._note_traffic()
        await self._reach()

    def _note_traffic(self) -> None:
        self.active_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        await end_tasks(list(self._connections))
        self._servers.clear()

    async def __aenter__(self) -> PortForwarder:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _reach_at_once() -> None:
    """It is there."""
