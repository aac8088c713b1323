# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from volant.errors import Conflict, GuestFailed, NotFound, Unreachable, VolantError
from volant.volantd.vms import monitor
from volant.volantd.vms.monitor import keep_clock

Answer = Callable[[], Coroutine[Any, Any, None]]


async def tell_time(answers: list[Answer], every_seconds: float, resumed: asyncio.Event | None = None) -> int:
    """How often a guest was told the time that answers so and then breaks its connection."""
    asked = 0

    async def set_clock(_: int) -> None:
        nonlocal asked
        asked += 1
        if asked > len(answers):
            raise Unreachable("the connection broke")
        await answers[asked - 1]()

    control = cast("Any", SimpleNamespace(set_clock=set_clock))
    machine = cast("Any", SimpleNamespace(wait_resumed=(resumed or asyncio.Event()).wait))
    with pytest.raises(Unreachable, match="the connection broke"):
        async with asyncio.timeout(60):
            await keep_clock(control, machine, "web", every_seconds)
    return asked


def refuse(error: VolantError) -> Answer:
    async def answer() -> None:
        raise error

    return answer


async def test_a_guest_that_refuses_the_time_is_told_again() -> None:
    errors = [GuestFailed("not permitted"), NotFound("no such method"), Conflict("it stops")]
    assert await tell_time([refuse(error) for error in errors], 0) == 4


async def test_a_guest_that_answers_late_is_told_the_time_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "CLOCK_LATE_SECONDS", 0.01)
    assert await tell_time([lambda: asyncio.sleep(0.1)], 3600) == 2


async def test_a_guest_that_goes_on_after_a_pause_is_told_the_time_at_once() -> None:
    resumed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, resumed.set)
    assert await tell_time([lambda: asyncio.sleep(0)], 3600, resumed) == 2
