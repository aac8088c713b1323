# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from volant.errors import Conflict, NotFound
from volant.kubernetes.boots import Boots


class SlowDaemon:
    """VMs that are up when the test says so."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.up: dict[str, asyncio.Event] = {}
        self.refuses = False

    async def create_vm(self, request: Any) -> Any:
        if self.refuses:
            raise Conflict("another VM has it")
        self.made.append(request["name"])
        self.up[request["name"]] = asyncio.Event()
        return request

    async def wait(self, name: str, *_: Any) -> None:
        await self.up[name].wait()
        raise NotFound("it is gone already, which is as good")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_as_many_boot_as_there_is_room_for_and_the_next_one_when_one_is_up() -> None:
    daemon = SlowDaemon()
    boots = Boots(cast("Any", daemon), most=2)
    beginning = [asyncio.create_task(boots.begin(cast("Any", {"name": name}))) for name in "abc"]
    await settle()
    assert daemon.made == ["a", "b"]
    daemon.up["a"].set()
    await settle()
    assert daemon.made == ["a", "b", "c"]
    for up in daemon.up.values():
        up.set()
    await asyncio.gather(*beginning)


@pytest.mark.asyncio
async def test_one_that_cannot_be_made_takes_no_room() -> None:
    daemon = SlowDaemon()
    boots = Boots(cast("Any", daemon), most=1)
    daemon.refuses = True
    for _ in range(2):
        with pytest.raises(Conflict):
            await boots.begin(cast("Any", {"name": "a"}))
    daemon.refuses = False
    await boots.begin(cast("Any", {"name": "a"}))
    assert daemon.made == ["a"]
    daemon.up["a"].set()
    await settle()
