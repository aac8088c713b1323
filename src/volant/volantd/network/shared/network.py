# SPDX-License-Identifier: Apache-2.0
"""The shared network: what VMs without a bridge of root's are on, and see each other on.

A namespace of the daemon's own with a bridge, rules, DNS and a way out; nothing of it is seen in the host's own. VMs
stay on it while the daemon is away. It is made with the first VM that needs it, and `tend` makes again what ended.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from volant.errors import ToolFailed, VolantError
from volant.process import find_tool
from volant.volantd.network import bridge_ipv6
from volant.volantd.network.bridge import BRIDGE, BRIDGE_MAC
from volant.volantd.network.egress.guard import EgressGuard
from volant.volantd.network.egress.rules import HeldGuest
from volant.volantd.network.names import NameServer
from volant.volantd.network.packet_filter import BridgeNet, make_host_rules
from volant.volantd.network.shared import outward
from volant.volantd.network.shared.namespace import Namespace
from volant.volantd.network.shared.rules import Guest, make_bridge_rules
from volant.volantd.network.shared.visible import find_visible_names, leads_out
from volant.volantd.tasks import end_tasks

logger = logging.getLogger(__name__)

TUN = Path("/dev/net/tun")
# The upper half has an address for each of user mode's loopback addresses (127.127.0.0/16), the lower one the gateway.
SUBNET = ipaddress.IPv4Network("10.126.0.0/15")
GATEWAY = ipaddress.IPv4Address("10.126.0.1")
GUESTS = ipaddress.IPv4Address("10.127.0.0")
LOOPBACK = ipaddress.IPv4Address("127.127.0.0")
RETRY_SECONDS = 60.0
FindGuests = Callable[[], Sequence[Guest]]
NAMES_PORT, NAMES_BACKLOG = 53, 100
NAMES_POLL_SECONDS, NAMES_TRIES = 0.05, 200


@dataclass(frozen=True, slots=True)
class Obstacle:
    fact: str
    mend: str


def find_obstacle() -> Obstacle | None:
    """Why this user's VMs cannot share a network on this host, as far as can be seen without trying."""
    if not TUN.exists():
        return Obstacle(f"there is no {TUN}", "modprobe tun")
    if not os.access(TUN, os.R_OK | os.W_OK):
        return Obstacle(
            f"{TUN} is closed to this user", f"sudo chmod 0666 {TUN}   (as distributions have it)"
        )
    if find_tool("nft") is None:
        return Obstacle("nft is not installed", "apt-get install nftables")
    return None


def find_guest_address(address: str) -> str:
    """Of a VM on the shared network, by its loopback address on the host: so both are unique by one constraint."""
    return str(GUESTS + (int(ipaddress.IPv4Address(address)) - int(LOOPBACK)))


def make_net() -> BridgeNet:
    return BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY, bridge_ipv6.find_prefix())


class SharedNetwork:
    """`folder` is private and outlives the daemon; `find_guests`: those that run, or are about to."""

    def __init__(self, folder: Path, log_folder: Path, *, is_on: bool, find_guests: FindGuests) -> None:
        self.net = make_net()
        address6 = str(bridge_ipv6.make_address(self.net.prefix, GATEWAY)) if self.net.prefix else ""
        self._namespace = Namespace(folder, log_folder / "shared-network.log", self.net, address6)
        self._outward_log = log_folder / "outward.log"
        self._outward_pid = log_folder / "outward.pid"
        self._is_on = is_on
        self._find_guests = find_guests
        self.egress = EgressGuard(self._run_nft, lambda: self.net, self._list_held)
        self._name_server: NameServer | None = None
        self._rules = ""
        self._lock = asyncio.Lock()
        self._failed_at = 0.0
        self._failure = ""
        self._outward_failed_at = 0.0
        self._outward_lock = asyncio.Lock()
        self._naming: asyncio.Task[None] | None = None
        self._leading: asyncio.Task[None] | None = None
        self._is_used = False

    def find_lasting_obstacle(self) -> str | None:
        """Why VMs cannot be on it as long as this host and this daemon's settings are what they are, or None."""
        if not self._is_on:
            return "VOLANT_SHARED_NETWORK or VOLANT_HOST_LOOPBACK says so"
        obstacle = find_obstacle()
        return None if obstacle is None else obstacle.fact

    # What a VM needs

    async def find_obstacle(self) -> str | None:
        """Why no VM can be started on it now, or None: it is there then."""
        if not self._is_on:
            return "VOLANT_SHARED_NETWORK=off"
        if (obstacle := find_obstacle()) is not None:
            self._failure = obstacle.fact
            return obstacle.fact
        if self._failed_at and time.monotonic() - self._failed_at < RETRY_SECONDS:
            return self._failure
        try:
            await self.prepare()
        except VolantError as error:
            self._failed_at = time.monotonic()
            self._failure = "; ".join([error.what, *error.details][:2])
            logger.warning("VMs do not see each other: %s", self._failure)
            return self._failure
        self._failed_at, self._failure = 0.0, ""
        return None

    async def prepare(self) -> None:
        """Make it, or what is missing of it. Raises ToolFailed."""
        async with self._lock:
            before = self._namespace.inside
            inside = await asyncio.to_thread(self._namespace.enter)
            if before is None or before.inode != inside.inode:
                await asyncio.to_thread(self._settle_outward)
                await asyncio.to_thread(
                    self._namespace.run, ["nft", "-f", "-"], "set its rules", self._make_rules()
                )
                self._rules = ""
                self.egress.forget(is_empty=self._namespace.is_new)
                await self._close_names()
            await self._open_names()
            if not self._is_used:
                self._is_used = True
                # No VM waits for it: a guest boots for longer.
                self._leading = asyncio.create_task(self.lead_out())

    def _settle_outward(self) -> None:
        """What another daemon's life has left: it goes with its namespace, or stays with it."""
        pid = outward.find_outward(self._outward_pid)
        if pid is not None and self._namespace.is_new:
            os.kill(pid, signal.SIGTERM)
        elif pid is not None:
            self._namespace.follow(pid)

    def _make_rules(self) -> bytes:
        return make_host_rules(self.net).encode()

    def _run_nft(self, arguments: Sequence[str], given: bytes) -> bytes:
        return self._namespace.run(["nft", *arguments], "hold VMs to their egress", given)

    def _list_held(self) -> list[HeldGuest]:
        return [
            HeldGuest(guest.name, guest.address, guest.egress)
            for guest in self._find_guests()
            if not guest.egress.is_open
        ]

    async def open_tap(self, name: str) -> int:
        return await asyncio.to_thread(self._namespace.open_tap, name)

    async def set_guests(self, guests: Sequence[Guest]) -> None:
        """Who is on it and who reaches whom; others reach nobody."""
        async with self._lock:
            rules = make_bridge_rules(guests, self.net)
            if rules != self._rules:
                command = ["nft", "-f", "-"]
                await asyncio.to_thread(self._namespace.run, command, "say who reaches whom", rules.encode())
                self._rules = rules

    async def open_socket(self, kind: int) -> socket.socket:
        """An IPv4 socket that connects to guests."""
        return await asyncio.to_thread(self._namespace.open_socket, kind)

    async def refresh(self) -> None:
        """Let pass what the VMs that run now may send: nothing before what is beyond is held to their lists."""
        await self.egress.apply()
        await self.set_guests(self._find_guests())

    def find_ipv6_address(self, address: str) -> str:
        """That which goes with a guest's IPv4 address; empty where there is no IPv6."""
        return str(bridge_ipv6.make_address(self.net.prefix, address)) if self.net.prefix else ""

    @property
    def failure(self) -> str:
        """Why the last VM could not be on it, or empty."""
        return self._failure

    @property
    def inode(self) -> int | None:
        """Which namespace it is: that of VMs that were started on it before may be another one, and lost."""
        inside = self._namespace.inside
        return inside.inode if inside is not None else None

    # What goes on beside

    async def tend(self) -> None:
        """Make again what has ended meanwhile; to be called from time to time."""
        if not self._is_used:
            return
        try:
            await self.prepare()
        except VolantError as error:
            logger.warning("%s: %s", error.what, "; ".join(error.details))
            return
        await self.lead_out()

    async def lead_out(self) -> None:
        """Give it a way out where it has none and there can be one."""
        async with self._outward_lock:
            await self._lead_out()

    async def _lead_out(self) -> None:
        inside = self._namespace.inside
        if inside is None or outward.leads_out(inside.pid) or outward.find_obstacle() is not None:
            return
        if self._outward_failed_at and time.monotonic() - self._outward_failed_at < RETRY_SECONDS:
            return
        try:
            pid = await outward.start_outward(inside, self._outward_log, self._outward_pid)
            await asyncio.to_thread(self._namespace.follow, pid)
            self._outward_failed_at = 0.0
        except (VolantError, OSError, TimeoutError) as error:
            self._outward_failed_at = time.monotonic()
            said = self._outward_log.read_text(errors="replace").strip()[-500:]
            logger.warning("VMs have no way out: pasta does not come up: %s %s", error, said)

    async def _open_names(self) -> None:
        """Answer for names, once the daemon before this one does not: one that was killed keeps its sockets until its
        last thread has gone. Nobody is kept from the network for that; `tend` tries again, too."""
        if self._name_server is not None or (self._naming is not None and not self._naming.done()):
            return
        if not await self._try_names():
            self._naming = asyncio.create_task(self._await_names())

    async def _await_names(self) -> None:
        reason = f"somebody else answers at {GATEWAY}"
        for _ in range(NAMES_TRIES):
            await asyncio.sleep(NAMES_POLL_SECONDS)
            try:
                if await self._try_names():
                    return
            except VolantError as error:
                reason = error.what
        logger.warning("VMs find each other by address alone: %s", reason)

    async def _try_names(self) -> bool:
        """False where somebody else is there."""
        server = NameServer(
            lambda asker: find_visible_names(self._find_guests(), asker),
            may_ask_further=lambda asker: leads_out(self._find_guests(), asker),
            find_held=self.egress.find_names,
        )
        sockets = []
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            opened = await asyncio.to_thread(self._namespace.open_socket, kind)
            sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setblocking(False)
            try:
                opened.bind((str(GATEWAY), NAMES_PORT))
                if kind == socket.SOCK_STREAM:
                    opened.listen(NAMES_BACKLOG)
            except OSError as error:
                for one in sockets:
                    one.close()
                if error.errno == errno.EADDRINUSE:
                    return False
                raise ToolFailed(f"cannot answer for VMs' names: {error}") from error
        await server.serve(*sockets)
        self._name_server = server
        return True

    async def _close_names(self) -> None:
        if self._naming is not None:
            await end_tasks([self._naming])
        server, self._name_server = self._name_server, None
        if server is not None:
            await server.close()

    async def close(self) -> None:
        if self._leading is not None:
            await end_tasks([self._leading])
        await self._close_names()
        await asyncio.to_thread(self._namespace.close)
