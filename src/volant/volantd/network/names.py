# SPDX-License-Identifier: Apache-2.0
"""DNS on the bridge's gateway: VMs by name, everything else by the host's own resolvers.

Small on purpose: it answers A, AAAA and PTR questions about VMs from a table that the daemon hands in, and passes
any other packet on unread. VM names are known bare and under `.volant`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

from volant.volantd.network.egress.answers import HeldNames, answer_held
from volant.volantd.tasks import end_tasks

logger = logging.getLogger(__name__)

DOMAIN = "volant"
TIME_TO_LIVE_SECONDS = 5
UPSTREAM_SECONDS = 3.0
# Forwarded questions at once: beyond that a guest floods, and its questions are dropped.
PENDING_LIMIT = 256
RESOLVER_CONFIGURATION = Path("/etc/resolv.conf")

Addresses = Mapping[str, Sequence[str]]
Names = Callable[[str], Addresses]
"""What who asks, by their address, may know."""
Ask = Callable[[str, bytes], Awaitable[bytes]]


def answer_locally(packet: bytes, names: Addresses) -> bytes | None:
    """The reply to a question about a VM (`names`: VM name → addresses), None for what is not ours to answer.

    Raises DNSError for a packet that is no DNS message.
    """
    question = DNSRecord.parse(packet)
    if question.header.qr or len(question.questions) != 1:
        return None
    name, kind = question.q.qname, QTYPE[question.q.qtype]
    wanted = str(name).rstrip(".").lower()
    reply = question.reply()
    if kind == "PTR" and wanted.endswith(".arpa"):
        found = next((vm for vm, known in names.items() if wanted in map(_reverse, known)), None)
        if found is None:
            return None
        reply.add_answer(RR(name, QTYPE.PTR, rdata=PTR(f"{found}.{DOMAIN}"), ttl=TIME_TO_LIVE_SECONDS))
        return bytes(reply.pack())
    bare = wanted.removesuffix(f".{DOMAIN}")
    if bare in names:
        # A name that exists but has no record of the asked type: an empty answer, not "no such name".
        # Each time in another order: who asks takes the first.
        for address in random.sample(names[bare], len(names[bare])):
            record, record_kind = (AAAA, "AAAA") if ":" in address else (A, "A")
            if kind in (record_kind, "ANY"):
                rtype = getattr(QTYPE, record_kind)
                reply.add_answer(RR(name, rtype, rdata=record(address), ttl=TIME_TO_LIVE_SECONDS))
        return bytes(reply.pack())
    if wanted.endswith(f".{DOMAIN}") or "." not in wanted:
        reply.header.rcode = RCODE.NXDOMAIN
        return bytes(reply.pack())
    return None


def _reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


def read_nameservers(configuration: Path = RESOLVER_CONFIGURATION) -> list[str]:
    """The host's own resolvers, read each time: they change with the network a laptop is in."""
    servers = []
    with suppress(OSError):
        for line in configuration.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                with suppress(ValueError):
                    servers.append(str(ipaddress.ip_address(words[1].split("%")[0])))
    return servers


class NameServer:
    """Listens on UDP and TCP of one address from `start` to `close`."""

    def __init__(
        self,
        names: Names,
        *,
        upstream: Callable[[], Sequence[str]] = read_nameservers,
        upstream_port: int = 53,
        may_ask_further: Callable[[str], bool] = lambda _asker: True,
        find_held: Callable[[str], HeldNames | None] = lambda _asker: None,
    ) -> None:
        """`may_ask_further`: whether who asks gets answers of the host's resolvers; `find_held`: of which alone."""
        self._names = names
        self._may_ask_further = may_ask_further
        self._find_held = find_held
        self._upstream = upstream
        self._upstream_port = upstream_port
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._pending: set[asyncio.Task[None]] = set()

    async def start(self, address: str, port: int = 53) -> int:
        """Begin to answer; the port that was bound. OSError where it is taken."""
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagrams.bind((address, port))
            bound: int = datagrams.getsockname()[1]
            streams = socket.create_server((address, bound))
        except OSError:
            datagrams.close()
            raise
        await self.serve(datagrams, streams)
        return bound

    async def serve(self, datagrams: socket.socket, streams: socket.socket) -> None:
        """As `start`, on sockets that are bound already."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._on_datagram), sock=datagrams
        )
        self._server = await asyncio.start_server(self._serve_stream, sock=streams)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        await end_tasks(list(self._pending))

    def _on_datagram(self, packet: bytes, peer: tuple[str, int]) -> None:
        if len(self._pending) < PENDING_LIMIT:
            task = asyncio.create_task(self._reply(packet, peer))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _reply(self, packet: bytes, peer: tuple[str, int]) -> None:
        reply = await self._find_answer(packet, peer[0], self._ask_by_datagram)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, peer)

    async def _find_answer(self, packet: bytes, asker: str, ask: Ask) -> bytes | None:
        try:
            local = answer_locally(packet, self._names(asker))
            if local is not None:
                return local
            may_ask = self._may_ask_further(asker)
            if may_ask and (held := self._find_held(asker)) is not None:
                return await answer_held(packet, held, lambda question: self._ask_upstream(question, ask))
            answer = await self._ask_upstream(packet, ask) if may_ask else None
            if answer is not None:
                return answer
            failed = DNSRecord.parse(packet).reply()
            failed.header.rcode = RCODE.SERVFAIL
            return bytes(failed.pack())
        except (DNSError, ValueError, IndexError, struct.error) as error:
            logger.debug("dropped a packet that is no DNS question: %s", error)
            return None

    async def _ask_upstream(self, packet: bytes, ask: Ask) -> bytes | None:
        for server in self._upstream():
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(UPSTREAM_SECONDS):
                    return await ask(server, packet)
        return None

    async def _ask_by_datagram(self, server: str, packet: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()

        def take(reply: bytes, _peer: tuple[str, int]) -> None:
            if not answer.done() and reply[:2] == packet[:2]:
                answer.set_result(reply)

        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(take, answer), remote_addr=(server, self._upstream_port)
        )
        try:
            transport.sendto(packet)
            return await answer
        finally:
            transport.close()

    async def _ask_by_stream(self, server: str, packet: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server, self._upstream_port)
        try:
            writer.write(struct.pack("!H", len(packet)) + packet)
            return await _read_message(reader)
        finally:
            writer.close()

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(2 * UPSTREAM_SECONDS):
                asker = writer.get_extra_info("peername")[0]
                reply = await self._find_answer(await _read_message(reader), asker, self._ask_by_stream)
                if reply is not None:
                    writer.write(struct.pack("!H", len(reply)) + reply)
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """One message of DNS over TCP (RFC 1035, 4.2.2): after its length in two bytes."""
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(length)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(
        self, take: Callable[[bytes, tuple[str, int]], None], failing: asyncio.Future[bytes] | None = None
    ) -> None:
        self._take = take
        self._failing = failing

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._take(data, addr)

    def error_received(self, exc: Exception) -> None:
        if self._failing is not None and not self._failing.done():
            self._failing.set_exception(exc)
