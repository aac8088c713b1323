# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from lightkube.models.core_v1 import Container, Probe

from volant.kubernetes.probing import Prober, Verdict

# What a probe of this name found: one answer an attempt, the last of them for ever.
Answers = dict[str, list[str]]


class World:
    """A prober without pauses. A probe is known by the port that it asks: its name."""

    def __init__(self, answers: Answers, **thresholds: int) -> None:
        self._answers = {kind: list(told) for kind, told in answers.items()}
        self.asked: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.woken = asyncio.Event()
        probes = {
            f"{kind}Probe": {"tcpSocket": {"port": kind}, **(thresholds if kind != "startup" else {})}
            for kind in answers
        }
        container = cast("Container", Container.from_dict({"name": "web", **probes}))
        self.prober = Prober(container, self._attempt, self.woken.set, self._tell)

    async def _attempt(self, probe: Probe) -> str:
        assert probe.tcpSocket is not None
        kind = str(probe.tcpSocket.port)
        self.asked.append(kind)
        answers = self._answers[kind]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def _tell(self, kind: str, reason: str) -> None:
        self.told.append((kind, reason))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.woken.clear()
                await self.woken.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.kubernetes.probing.DEFAULT_PERIOD_SECONDS", 0.001)


def test_a_verdict_changes_with_as_many_in_a_row_as_its_threshold() -> None:
    verdict = Verdict(True, failure_threshold=3, success_threshold=2)
    steps = [
        (one, verdict.take(one), verdict.is_good)
        for one in (False, False, True, False, False, False, True, True)
    ]
    assert [good for _, _, good in steps] == [True, True, True, True, True, False, False, True]


@pytest.mark.asyncio
async def test_liveness_fails_after_its_threshold_and_is_told_of_once() -> None:
    world = World({"liveness": ["", "no", "", "no"]})
    world.prober.follow("first")
    await world.until(lambda: world.prober.failure)
    assert world.prober.failure is not None
    assert (world.prober.failure.kind, world.prober.failure.reason) == ("liveness", "no")
    assert world.asked == ["liveness"] * 6, "one failure alone is none"
    assert world.told == [("liveness", "no")] * 2, "each time that it begins to fail"


@pytest.mark.asyncio
async def test_nothing_else_is_probed_until_it_has_started() -> None:
    world = World({"startup": ["no", ""], "liveness": [""], "readiness": [""]})
    assert not world.prober.is_started
    world.prober.follow("first")
    await world.until(lambda: world.prober.is_ready)
    assert world.prober.is_started
    assert world.asked[:2] == ["startup", "startup"]
    world.prober.follow("second")
    assert (world.prober.is_started, world.prober.is_ready) == (False, False), "another run begins anew"
    world.prober.stop()


@pytest.mark.asyncio
async def test_one_that_never_starts_is_ended() -> None:
    world = World({"startup": ["no"], "readiness": [""]})
    world.prober.follow("first")
    await world.until(lambda: world.prober.failure)
    assert world.asked == ["startup"] * 3
    world.prober.stop()
    assert world.prober.failure is None


@pytest.mark.asyncio
async def test_readiness_comes_and_goes_and_ends_nothing() -> None:
    world = World({"readiness": ["no", "", "no", "no", "no", ""]}, failureThreshold=2)
    world.prober.follow("first")
    seen = [world.prober.is_ready]
    for wanted in (True, False, True):
        await world.until(lambda wanted=wanted: world.prober.is_ready is wanted)
        seen.append(world.prober.is_ready)
    assert seen == [False, True, False, True]
    assert world.prober.failure is None
    world.prober.stop()
    assert World({"liveness": [""]}).prober.is_ready is None
