# SPDX-License-Identifier: Apache-2.0
"""The byte stream under the SSH connection to an agent, freed of what an earlier host left in it.

A virtio-serial port knows no connections: bytes that the agent wrote to a host that has gone, up to the whole queue of
the port, reach the next host first. The agent therefore repeats the identification that this host sent (RFC 4253, 4.2),
on a line of its own, before it says anything else; what comes before that line is not meant for us.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

from volant.contract.agent import GREETING_PREFIX
from volant.errors import Unreachable

# Far more than a port's queue holds: whoever sends this much and no greeting is no agent.
SKIPPED_LIMIT_BYTES = 64 << 20


class AgentStream:
    """A connected socket to an agent, in the form that asyncssh takes as `tunnel`."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.client_version = f"volant_{secrets.token_hex(8)}"

    async def create_connection(
        self, session_factory: Callable[[], asyncio.Protocol], _host: str, _port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        greeting = f"{GREETING_PREFIX}SSH-2.0-{self.client_version}\r\n".encode()
        transport, skipper = await asyncio.get_running_loop().create_connection(
            lambda: _Skipper(session_factory(), greeting), sock=self._socket
        )
        return transport, skipper.session


class _Skipper(asyncio.Protocol):
    """Drops what comes before `greeting` and its line end, then leaves the transport to `session`."""

    def __init__(self, session: asyncio.Protocol, greeting: bytes) -> None:
        self.session = session
        self._greeting = greeting
        self._tail = b""
        self._skipped_bytes = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.session.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        received = self._tail + data
        _, found, after = received.partition(self._greeting)
        self._skipped_bytes += len(data)
        if found:
            self._transport.set_protocol(self.session)
            if after:
                self.session.data_received(after)
        elif self._skipped_bytes > SKIPPED_LIMIT_BYTES:
            self._transport.abort()
            self.session.connection_lost(Unreachable("the guest's agent does not greet this host"))
        else:
            self._tail = received[-len(self._greeting) + 1 :]

    def eof_received(self) -> bool | None:
        return self.session.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.session.connection_lost(exc)

    def pause_writing(self) -> None:
        self.session.pause_writing()

    def resume_writing(self) -> None:
        self.session.resume_writing()
