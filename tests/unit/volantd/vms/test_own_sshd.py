# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncssh
import pytest

from support import vm_records
from volant.errors import Conflict, Unreachable, WrongState
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.keys import make_private_key, read_public_key
from volant.volantd.vms.own_sshd import Door, authorize, find_door, sign
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import VmState

CONTROL_KEY, HOST_KEY = make_private_key(), make_private_key()


def make_record(port: int | None = 8022, **definition: object) -> VmRecord:
    ports = () if port is None else (PublishedPort("127.0.0.1", port, 22),)
    return replace(
        vm_records.make_record(**definition), control_key=CONTROL_KEY, host_key=HOST_KEY, state=VmState.RUNNING,
        ports=ports,
    )  # fmt: skip


@asynccontextmanager
async def serve(host_key: str) -> AsyncIterator[int]:
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[asyncssh.import_private_key(host_key)], allow_scp=False
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_the_door_is_the_published_port_or_the_address_on_the_bridge() -> None:
    assert find_door(make_record()) == Door("127.0.0.1", 8022)
    assert find_door(make_record(None, network="bridged")) == Door("192.168.127.100", 22)
    with pytest.raises(Unreachable, match="not published"):
        find_door(make_record(None))
    with pytest.raises(WrongState, match="is stopped"):
        find_door(replace(make_record(), state=VmState.STOPPED))


async def test_a_session_tells_the_pinned_key_and_the_key_that_logs_in() -> None:
    async with serve(HOST_KEY) as port:
        session = await authorize(make_record(port))
    assert session.host_key == read_public_key(HOST_KEY)
    assert session.identity == read_public_key(CONTROL_KEY)


async def test_no_server_and_another_key_are_told() -> None:
    async with serve(make_private_key()) as port:
        with pytest.raises(Unreachable, match="shows another key"):
            await authorize(make_record(port))
    with pytest.raises(Unreachable, match="no SSH server answers"):
        await authorize(make_record(port))


def test_only_for_a_system_of_its_own_is_signed() -> None:
    with pytest.raises(Conflict, match="lets keys in by itself"):
        sign(make_record(), b"anything")
