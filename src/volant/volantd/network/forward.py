# SPDX-License-Identifier: Apache-2.0
"""Published ports of bridged VMs: a listener of the daemon's own that carries bytes to the VM's address.

A rule of the packet filter would be no help on loopback (it needs `route_localnet`, a host-wide setting), and
would outlive the daemon. These listeners end with the daemon and come back when it adopts the VM.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from contextlib import suppress

from volant.errors import Conflict, InvalidInput, NotPermitted
from volant.volantd.network.forward_udp import UdpListener
from volant.volantd.network.types import PublishedPort
from volant.volantd.tasks import end_tasks

CHUNK_BYTES = 1 << 16
CONNECT_SECONDS = 10.0


class PortForwarder:
    """The published ports of one VM. Use as an asynchronous context manager, or `start` and `close`."""

    def __init__(self, guest_address: str, published: Sequence[PublishedPort]) -> None:
        self._guest_address = guest_address
        self._published = published
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
                await self._carry(port.guest_port, reader, writer)
            finally:
                self._connections.discard(task)

        where = f"{port.host_ip}:{port.host_port}"
        try:
            if port.protocol == "udp":
                listener = UdpListener(self._guest_address, port.guest_port)
                loop = asyncio.get_running_loop()
                await loop.create_datagram_endpoint(
                    lambda: listener, local_addr=(port.host_ip, port.host_port)
                )
                return listener
            return await asyncio.start_server(serve, port.host_ip, port.host_port)
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

    async def _carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                guest_reader, guest_writer = await asyncio.open_connection(self._guest_address, port)
        except (OSError, TimeoutError):
            # The client was accepted already: all it can still be shown is a connection that ends at once.
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_copy(reader, guest_writer), _copy(guest_reader, writer))
        except OSError:
            pass
        finally:
            writer.close()
            guest_writer.close()

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


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction until its end; the other may go on (half-closed connections are legal)."""
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
