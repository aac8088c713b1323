# SPDX-License-Identifier: Apache-2.0
"""AsyncClient has every call of Client, side by side, and hands errors and streams over."""

from __future__ import annotations

import asyncio

import pytest

from support.in_process_daemon import InProcessDaemon
from volant.client import AsyncClient, Client
from volant.client.asynchronous import MOST_WAITING
from volant.client.transport import Transport
from volant.errors import NotFound


def test_both_have_the_same_calls() -> None:
    plain = {name for name in vars(Client) if not name.startswith("_")} - set(vars(Transport))
    assert plain == {name for name in vars(AsyncClient) if not name.startswith("_")}


async def test_calls_go_side_by_side_and_raise_as_the_plain_ones(daemon: InProcessDaemon) -> None:
    client = AsyncClient("in process", connect=daemon.connect)
    replies = await asyncio.gather(*(client.get_system_info() for _ in range(8)))
    assert len({reply["version"] for reply in replies}) == 1
    with pytest.raises(NotFound):
        await client.get_vm("none")


async def test_a_stream_is_handed_over_whole_and_may_be_left(daemon: InProcessDaemon) -> None:
    client = AsyncClient("in process", connect=daemon.connect)
    count = MOST_WAITING + 50

    def add() -> None:
        for number in range(count):
            daemon.add_event("note", "vm", number=number)

    await asyncio.to_thread(add)
    seen = [event["data"]["number"] async for event in client.events(vm="vm")]
    assert seen == list(range(count))[-len(seen) :]
    assert len(seen) >= MOST_WAITING, "more than wait at a time"
    async for event in client.events(vm="vm"):
        assert event["data"] == {"number": seen[0]}
        break


async def test_a_command_is_talked_with_and_errors_leave_its_context(daemon: InProcessDaemon) -> None:
    daemon.install("web")
    client = AsyncClient("in process", connect=daemon.connect)
    await client.create_vm({"name": "one", "plugin": "web"})
    await client.wait("one")
    async with client.open_exec("one", ["cat", "-"]) as command:
        await command.write(b"said")
        await command.close_input()
        pieces = [piece async for piece in command]
        assert command.exit_code == 3
    assert dict(pieces) == {"stdout": b"cat -|said", "stderr": b"warned"}
    async with client.open_exec("one", ["terminal"], terminal=(90, 30)) as command:
        await command.resize(100, 40)
        assert await command.wait() == 0
    with pytest.raises(NotFound):
        async with client.open_exec("none", ["true"]):
            pass
