# SPDX-License-Identifier: Apache-2.0
"""The way into a VM that boots its own system: that system's own SSH server, reached over the network.

Its seed gave it the VM's control key to let in and the host key that is pinned here. The control key stays in the
daemon, which signs for whoever may use its API (volar hands that to ssh as an agent).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from volant.errors import Conflict, Unreachable, WrongState
from volant.volantd.guest.connection import ByteReader, ByteWriter
from volant.volantd.guest.ssh_library import asyncssh
from volant.volantd.vms.keys import read_public_key
from volant.volantd.vms.networking import ON_BRIDGE, SSH_PORT
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import WITH_PROCESS

ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where on this host the guest's port 22 is."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Session:
    """Public keys: the server's, and the one that logs in (`sign`)."""

    host_key: str
    identity: str


def find_door(record: VmRecord) -> Door:
    """WrongState unless it runs, Unreachable where its network leads to no SSH server."""
    if record.state not in WITH_PROCESS:
        raise WrongState(
            f"cannot log in to VM {record.name}: it is {record.state.value}",
            resolution=f"start it first: volar vms start {record.name}",
        )
    if record.definition.network in ON_BRIDGE and record.address is not None:
        return Door(record.address, SSH_PORT)
    for port in record.ports:
        if port.guest_port == SSH_PORT and port.protocol == "tcp":
            return Door("127.0.0.1" if port.host_ip == "0.0.0.0" else port.host_ip, port.host_port)  # noqa: S104  # as asked
    raise Unreachable(
        f"cannot log in to VM {record.name}: its port {SSH_PORT} is not published",
        resolution=f"volar vms console {record.name}",
    )


def sign(record: VmRecord, data: bytes) -> bytes:
    """A signature of the VM's control key; Conflict where its agent has no need of one."""
    if not record.has_own_system:
        raise Conflict(f"cannot sign for VM {record.name}: its agent lets keys in by itself")
    return asyncssh.import_private_key(record.control_key).sign(data, b"ssh-ed25519")


async def authorize(record: VmRecord) -> Session:
    """A session once its SSH server answers with the key that it was given; Unreachable, saying why, until then."""
    door = find_door(record)
    expected = read_public_key(record.host_key)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            shown = await asyncssh.get_server_host_key(
                door.host, door.port, server_host_key_algs=["ssh-ed25519"], config=None
            )
    except (OSError, TimeoutError, asyncssh.Error) as error:
        raise Unreachable(
            f"cannot log in to VM {record.name}: no SSH server answers at {door.host}:{door.port} yet",
            details=[str(error)] if str(error) else [],
            resolution=f"look at its console: volar vms logs {record.name} --console",
        ) from error
    if shown is None or " ".join(shown.export_public_key().decode().split()[:2]) != expected:
        raise Unreachable(
            f"cannot log in to VM {record.name}: its SSH server shows another key than its seed gave it",
            resolution=f"if its disk has no cloud-init, use plain ssh: ssh -p {door.port} USER@{door.host}",
        )
    return Session(host_key=expected, identity=read_public_key(record.control_key))


@asynccontextmanager
async def open_stream(record: VmRecord) -> AsyncIterator[tuple[ByteReader, ByteWriter]]:
    """Bytes to and from its SSH server."""
    door = find_door(record)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(door.host, door.port)
    except (OSError, TimeoutError) as error:
        raise Unreachable(
            f"cannot reach the SSH server of VM {record.name} at {door.host}:{door.port}"
        ) from error
    try:
        yield reader, writer
    finally:
        writer.close()
