# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.template_shapes import make_spec
from support.vm_records import make_record
from volant.errors import Conflict, GuestFailed, NotFound, Unreachable, VolantError
from volant.volantd.hypervisors.base import MemoryImage
from volant.volantd.vms import monitor
from volant.volantd.vms.monitor import VmMonitor, goes_on, keep_clock

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


@pytest.mark.parametrize(
    ("kind", "accelerator", "expected"),
    [
        ("boot", "tcg", False), ("template", "tcg", False), ("workload", "tcg", True), ("snapshot", "tcg", True),
        ("snapshot", "kvm", False),
    ],
)  # fmt: skip
def test_whose_workload_has_a_head_start(tmp_path: Path, kind: str, accelerator: Any, expected: bool) -> None:
    image = MemoryImage(
        tmp_path, has_pages=True, is_template=kind != "snapshot", has_workload=kind == "workload"
    )
    spec = replace(make_spec(tmp_path), accelerator=accelerator, wakes_from=None if kind == "boot" else image)
    assert goes_on(spec) is expected


async def test_the_agent_of_one_that_goes_on_is_connected_to_once_somebody_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "HEAD_START_SECONDS", 3600.0)
    asked = asyncio.Event()

    async def open_control() -> None:
        asked.set()
        raise Unreachable("no agent")

    async def wait() -> None:
        await asyncio.Event().wait()

    spec = replace(make_spec(tmp_path), wakes_from=MemoryImage(tmp_path))
    machine: Any = SimpleNamespace(open_control=open_control, wait=wait, release=lambda: asyncio.sleep(0))
    ignore: Any = lambda *_: None  # noqa: E731  # three callbacks
    log: Any = None
    followed = VmMonitor(
        replace(make_record(), spec=spec),
        machine,
        log,
        ignore,
        on_agent=ignore,
        on_state=ignore,
        on_end=ignore,
    )
    await asyncio.sleep(0)
    assert not asked.is_set()
    assert await followed.wait_connected(0.01) is None
    await asyncio.wait_for(asked.wait(), 60)
    await followed.release()
