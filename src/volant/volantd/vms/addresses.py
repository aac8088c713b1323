# SPDX-License-Identifier: Apache-2.0
"""A loopback address of its own for each VM in user mode, and the ports published on it.

The whole of 127.0.0.0/8 reaches the host itself, so an address needs no configuration; other users' daemons choose
from the same range, which is why an address counts as free only when the ports wanted there can be bound.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Collection, Sequence

from volant.errors import Conflict, InvalidInput, NotPermitted
from volant.volantd.network.types import EVERYWHERE, PortRequest, PublishedPort

# Where a port that this user may not bind is published instead, and one that is in use at every address.
UNPRIVILEGED_OFFSET = 8000
OFFSETS = range(0, 40_001, UNPRIVILEGED_OFFSET)
ATTEMPTS = 50


def choose_address(taken: Collection[str], guest_ports: Sequence[int]) -> tuple[str, list[PublishedPort]]:
    """A free address in 127.127.0.0/16 and the guest's ports published there, each as it is or 8000 higher; where
    somebody listens on one everywhere (0.0.0.0), higher still."""
    for attempt in range(ATTEMPTS):
        address = f"127.127.{random.randrange(256)}.{random.randrange(1, 255)}"  # noqa: S311  # not a secret
        if address in taken:
            continue
        moves = attempt >= ATTEMPTS // 2
        host_ports = [_choose_port(address, port, moves=moves) for port in guest_ports]
        if None not in host_ports:
            return address, [
                PublishedPort(host_ip=address, host_port=host_port, guest_port=guest_port)
                for host_port, guest_port in zip(host_ports, guest_ports, strict=True)
                if host_port is not None
            ]
    raise Conflict(
        "cannot find a free loopback address for the VM in 127.127.0.0/16",
        resolution="see who listens there: ss -ltn 'src 127.127.0.0/16'",
    )


def _choose_port(address: str, guest_port: int, *, moves: bool) -> int | None:
    """The port itself, or higher where this user may not bind it or, if it `moves`, somebody else has it."""
    for offset in OFFSETS:
        port = guest_port + offset
        problem = find_bind_problem(address, port) if port < 65536 else errno.EACCES
        if problem is None:
            return port
        if problem != errno.EACCES and not moves:
            break
    return None


def leave_out_covered(usual: Sequence[PublishedPort], asked: Sequence[PortRequest]) -> list[PublishedPort]:
    """The ports at a VM's own address but those that people ask for on all addresses, this one among them."""
    covered = {
        (request.host_port, request.guest_port, request.protocol)
        for request in asked
        if request.host_ip in EVERYWHERE
    }
    return [port for port in usual if (port.host_port, port.guest_port, port.protocol) not in covered]


def publish(requests: Sequence[PortRequest], beside: Sequence[PublishedPort] = ()) -> list[PublishedPort]:
    """The ports that people asked for, on 127.0.0.1 unless they say where; Conflict where one is in use. `beside`:
    those that are published with them."""
    published: list[PublishedPort] = []
    for request in requests:
        host_ip = request.host_ip or "127.0.0.1"
        port = PublishedPort(
            host_ip=host_ip,
            host_port=request.host_port or _find_free_port(host_ip),
            guest_port=request.guest_port,
            protocol=request.protocol,
        )
        if other := next((p for p in (*beside, *published) if p.collides_with(port)), None):
            raise _refuse_second(port, other)
        check_port(port)
        published.append(port)
    return published


def _refuse_second(port: PublishedPort, other: PublishedPort) -> InvalidInput:
    where = f"{port.host_ip}:{port.host_port}"
    if port.host_ip == other.host_ip:
        return InvalidInput(f"cannot publish {where} twice")
    return InvalidInput(
        f"cannot publish {where}: {other.host_ip}:{other.host_port} is published, too, and only one can listen",
        resolution="leave one of them out, or choose another port",
    )


def check_port(port: PublishedPort) -> None:
    """Raise Conflict (in use), NotPermitted or InvalidInput where this port cannot be bound now."""
    where = f"{port.host_ip}:{port.host_port}"
    problem = find_bind_problem(port.host_ip, port.host_port, port.protocol)
    if problem is None:
        return
    if problem == errno.EADDRINUSE:
        raise Conflict(
            f"cannot publish port {port.guest_port} on {where}: the port is in use",
            resolution=f"choose another one, or see who has it: ss -ltnp 'sport = :{port.host_port}'",
        )
    if problem == errno.EACCES:
        raise NotPermitted(
            f"cannot publish port {port.guest_port} on {where}: ports below 1024 need root",
            resolution=f"publish it higher, e.g. --publish {port.host_port + UNPRIVILEGED_OFFSET}:{port.guest_port}",
        )
    raise InvalidInput(
        f"cannot publish port {port.guest_port} on {where}: {errno.errorcode.get(problem, problem)}",
        resolution="give an address of this host, e.g. --publish 127.0.0.1:8080:80",
    )


def find_bind_problem(address: str, port: int, protocol: str = "tcp") -> int | None:
    """The errno that binding a port there gives now, or None."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if protocol == "tcp":
            # As QEMU does: connections in TIME_WAIT are no reason to refuse.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if protocol == "tcp":
                probe.listen(1)
        except socket.gaierror:
            return errno.EINVAL
        except OSError as error:
            return error.errno or errno.EINVAL
    return None


def _find_free_port(address: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise InvalidInput(f"cannot publish on {address}: {error.strerror or error}") from error
        port: int = probe.getsockname()[1]
        return port
