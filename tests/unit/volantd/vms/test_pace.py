# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest

from volant.volantd.vms.pace import Pace


async def test_a_burst_passes_and_the_rest_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = Pace(3, 1000.0)
    for _ in range(3):
        await pace.wait()
    assert waited == []
    for _ in range(2):
        await pace.wait()
    assert [round(seconds, -2) for seconds in waited] == [1000.0, 2000.0]
