# SPDX-License-Identifier: Apache-2.0
"""Published ports that outlive the daemon: it tells a process of their own what to listen on and where that leads.

Connections go on and new ones are taken while no daemon is there. The next one finds the carrier by its socket and
tells it all again, which changes nothing that is as it should be. One that was killed is followed by another at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

import volant
from volant.errors import ToolFailed, VolantError
from volant.forked_programs import listen_privately, reap_ended, start_forked
from volant.volantd.network.balancer import Backend
from volant.volantd.network.carrier import program
from volant.volantd.network.carrier.link import Link, Message, open_link
from volant.volantd.network.types import PublishedPort
from volant.volantd.tasks import end_tasks

logger = logging.getLogger(__name__)

SOCKET_NAME = "ports.sock"
LISTENER_DESCRIPTOR = 10
ANSWER_SECONDS, AGAIN_SECONDS = 60.0, 1.0
Target = tuple[str, int]


class Carrier:
    """`folder`: where it listens, a private one that outlives the daemon; `holder`: where the VMs' shared network is
    asked for sockets. It is there from the first port on."""

    def __init__(self, folder: Path, log: Path, holder: Path) -> None:
        self._place = folder / SOCKET_NAME
        self._log, self._holder = log, holder
        self._wanted: dict[str, Message] = {}
        self._link: Link | None = None
        self._lock = asyncio.Lock()
        self._returning: asyncio.Task[None] | None = None
        self._children: list[int] = []

    async def hold(
        self, key: str, ports: Sequence[PublishedPort], targets: Sequence[Target], *, is_inside: bool
    ) -> None:
        """Publish the ports of one VM, all or none; each leads to its target, in the VMs' shared network or here.
        Conflict, NotPermitted and InvalidInput as `open_listener`; ToolFailed."""
        await self._tell(
            {"verb": "hold", "key": key, "ports": _write(ports), "targets": targets, "is_inside": is_inside}
        )

    async def balance(self, key: str, backends: Mapping[PublishedPort, Sequence[Backend]]) -> None:
        """Publish the ports of several VMs at once. As `hold`."""
        found = [[(each.id, *each.address) for each in some] for some in backends.values()]
        await self._tell({"verb": "balance", "key": key, "ports": _write(list(backends)), "backends": found})

    async def drain(self, key: str, backend: str, seconds: float) -> None:
        """As `Balancer.drain`."""
        with suppress(ConnectionError):  # its connections ended with it
            link = await self._reach(starts=False)
            if link is not None:
                await link.ask({"verb": "drain", "key": key, "backend": backend, "seconds": seconds})

    async def withdraw(self, key: str) -> None:
        """Harmless where it carries none such."""
        self._wanted.pop(key, None)
        await self._mention({"verb": "withdraw", "key": key})

    async def keep(self, kind: str, keys: Collection[str]) -> None:
        """Withdraw all others of a kind, those whose key begins with it and "/": what ended without a daemon."""
        await self._mention({"verb": "keep", "kind": kind, "keys": list(keys)})

    async def _mention(self, message: Message) -> None:
        """Where there is somebody who may carry something; nobody is kept from their work by that."""
        try:
            link = await self._reach(starts=False)
            if link is None:
                return
            await _ask(link, message)
            if not self._wanted and not link.is_busy:
                # With nothing to carry it ends by itself, once nobody is connected.
                await link.close()
        except ConnectionError:
            pass  # what it carried has ended, too
        except VolantError as error:
            logger.warning("%s", error)

    async def _tell(self, message: Message) -> None:
        for is_last in (False, True):
            link = await self._reach(starts=True)
            assert link is not None
            try:
                await _ask(link, message)
                self._wanted[message["key"]] = message
                return
            except ConnectionError as error:
                if is_last:
                    raise ToolFailed(f"cannot publish ports: {error}", details=self._read_log()) from error

    async def _reach(self, *, starts: bool) -> Link | None:
        async with self._lock:
            if self._link is not None and self._link.is_open:
                return self._link
            link = await open_link(str(self._place), self._note_end)
            if link is None and starts:
                await asyncio.to_thread(self._start)
                link = await open_link(str(self._place), self._note_end)
                if link is None:
                    raise ToolFailed("cannot publish ports: no carrier answers", details=self._read_log())
            self._link = link
            if link is not None:
                await self._tell_all(link)
            return link

    async def _tell_all(self, link: Link) -> None:
        for key, message in list(self._wanted.items()):
            try:
                await _ask(link, message)
            except (VolantError, ConnectionError) as error:
                logger.warning("the ports of %s are not published: %s", key, error)

    def _note_end(self) -> None:
        if self._wanted and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return())

    async def _return(self) -> None:
        logger.warning("the process that carries connections has ended: another one follows")
        while self._wanted:
            try:
                await self._reach(starts=True)
                return
            except (VolantError, OSError) as error:
                logger.warning("%s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    def _start(self) -> None:
        reap_ended(self._children)
        self._log.unlink(missing_ok=True)
        with listen_privately(self._place, socket.SOCK_STREAM) as listener:
            packages = str(Path(volant.__file__).parent.parent)
            arguments = [str(LISTENER_DESCRIPTOR), packages, str(self._holder)]
            descriptors = {LISTENER_DESCRIPTOR: listener.fileno()}
            self._children.append(
                start_forked(program.__file__, arguments, self._log, descriptors=descriptors)
            )

    def _read_log(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()[-5:] if self._log.exists() else []

    async def close(self) -> None:
        """Let go of it: with nothing to carry it ends by itself."""
        if self._returning is not None:
            await end_tasks([self._returning])
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        reap_ended(self._children)


async def _ask(link: Link, message: Message) -> None:
    """What is answered at once by whoever is well."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await link.ask(message)
    except TimeoutError as error:
        raise ToolFailed(f"cannot publish ports: no answer within {ANSWER_SECONDS:g} s") from error


def _write(ports: Sequence[PublishedPort]) -> list[tuple[object, ...]]:
    return [astuple(port) for port in ports]
