# SPDX-License-Identifier: Apache-2.0
"""What the carrier does for who connects to its listener: JSON lines, each with a number that its answer has, too.

`hold` and `balance` say what is to be, and change nothing where it is so; they and `withdraw` name one of those that
are carried, by `key`. `keep` lets go of all of a kind that it does not name. `drain` is answered when it is done, and
called off when its asker goes. It ends itself, once nobody is connected and nothing is carried, or when its place
in the file system is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from volant.errors import VolantError
from volant.volantd.network.balancer import Backend, Balancer
from volant.volantd.network.forward import PortForwarder
from volant.volantd.network.forward_udp import OpenSocket, open_here
from volant.volantd.network.types import PublishedPort
from volant.volantd.tasks import end_tasks

MESSAGE_LIMIT_BYTES = 1 << 24
ANSWER_SECONDS = 20.0
# How long it waits for a daemon that comes back, or for the first port.
IDLE_SECONDS, LOOK_SECONDS = 10.0, 2.5


@dataclass(slots=True)
class _Carried:
    ports: tuple[PublishedPort, ...]
    targets: object
    by: PortForwarder | Balancer

    async def close(self) -> None:
        if isinstance(self.by, Balancer):
            self.by.close()
        else:
            await self.by.close()


class Service:
    """`open_inside` makes sockets of the VMs' shared network."""

    def __init__(self, open_inside: OpenSocket) -> None:
        self._open_inside = open_inside
        self._carried: dict[str, _Carried] = {}
        self._askers = 0
        self._lock = asyncio.Lock()

    @property
    def is_idle(self) -> bool:
        return not (self._carried or self._askers)

    async def listen_to(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks = set[asyncio.Task[None]]()
        self._askers += 1
        try:
            # Whoever says what is no message is not listened to.
            with suppress(ConnectionError, ValueError):
                while line := await reader.readline():
                    task = asyncio.create_task(self._answer(json.loads(line), writer))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        finally:
            self._askers -= 1
            writer.close()
            await end_tasks(tasks)

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {"number": request["number"]}
        try:
            await self._do(request)
        except VolantError as error:
            answer["error"] = [error.code, error.what, error.details, error.resolution]
        except Exception as error:
            answer["error"] = ["internal", f"cannot publish ports: {error!r}", (), ""]
        writer.write(json.dumps(answer).encode() + b"\n")

    async def _do(self, request: dict[str, Any]) -> None:
        verb = request["verb"]
        if verb == "drain":
            carried = self._carried.get(request["key"])
            if carried is not None and isinstance(carried.by, Balancer):
                await carried.by.drain(request["backend"], request["seconds"])
            return
        async with self._lock:
            if verb == "hold":
                await self._hold(request)
            elif verb == "balance":
                await self._balance(request)
            elif verb == "withdraw":
                await self._drop(request["key"])
            elif verb == "keep":
                for key in [key for key in self._carried if key.startswith(f"{request['kind']}/")]:
                    if key not in request["keys"]:
                        await self._drop(key)
            else:
                raise ValueError(f"unknown verb {verb}")

    async def _hold(self, request: dict[str, Any]) -> None:
        key, ports = request["key"], _read_ports(request)
        targets = {
            port: (host, number) for port, (host, number) in zip(ports, request["targets"], strict=True)
        }
        told = (targets, request["is_inside"])
        before = self._carried.get(key)
        if before is not None and (before.ports, before.targets) == (ports, told):
            return
        await self._drop(key)
        open_socket = self._open_inside if request["is_inside"] else open_here
        forwarder = PortForwarder(ports, targets.__getitem__, open_socket=open_socket)
        await forwarder.start()
        self._carried[key] = _Carried(ports, told, forwarder)

    async def _balance(self, request: dict[str, Any]) -> None:
        key, ports = request["key"], _read_ports(request)
        backends = {
            port: [Backend(name, (host, number)) for name, host, number in found]
            for port, found in zip(ports, request["backends"], strict=True)
        }
        before = self._carried.get(key)
        if before is not None and isinstance(before.by, Balancer) and before.ports == ports:
            before.by.set_backends(backends)
            return
        await self._drop(key)
        balancer = Balancer(ports)
        balancer.set_backends(backends)
        await balancer.start()
        self._carried[key] = _Carried(ports, None, balancer)

    async def _drop(self, key: str) -> None:
        carried = self._carried.pop(key, None)
        if carried is not None:
            await carried.close()


def _read_ports(request: dict[str, Any]) -> tuple[PublishedPort, ...]:
    return tuple(PublishedPort(*port) for port in request["ports"])


def ask_holder(place: str, kind: int) -> socket.socket:
    """An IPv4 socket of the VMs' shared network (`shared.holder`). OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(ANSWER_SECONDS)
        channel.connect(place)
        channel.send(json.dumps({"verb": "socket", "family": socket.AF_INET, "kind": kind}).encode())
        message, descriptors, _, _ = socket.recv_fds(channel, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    if not descriptors:
        raise OSError(f"no socket of the VMs' shared network: {message.decode()}")
    return socket.socket(fileno=descriptors[0])


async def serve(listener: socket.socket, holder: str) -> None:
    place = listener.getsockname()
    inode = os.stat(place).st_ino

    async def open_inside(kind: int) -> socket.socket:
        return await asyncio.to_thread(ask_holder, holder, kind)

    service = Service(open_inside)
    listener.setblocking(False)
    await asyncio.start_unix_server(service.listen_to, sock=listener, limit=MESSAGE_LIMIT_BYTES)
    idle_seconds = 0.0
    while idle_seconds < IDLE_SECONDS and _has_inode(place, inode):
        await asyncio.sleep(LOOK_SECONDS)
        idle_seconds = idle_seconds + LOOK_SECONDS if service.is_idle else 0.0
    # Another one may have taken its place meanwhile.
    if _has_inode(place, inode):
        os.unlink(place)


def _has_inode(place: str, inode: int) -> bool:
    try:
        return os.stat(place).st_ino == inode
    except FileNotFoundError:
        return False
