# SPDX-License-Identifier: Apache-2.0
"""When a workload's memory is taken, with an agent that is played; a real one is in the tests of warm starts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from volant.contract.agent import AgentState
from volant.errors import GuestFailed, Unreachable
from volant.volantd.hypervisors.base import MachineState
from volant.volantd.templates import workload
from volant.volantd.templates.workload import Keys, held_workload


class Guest:
    """A machine and its agent: what it says of itself, and what it was told."""

    def __init__(
        self, *states: AgentState, refusals: int = 0, state: MachineState = MachineState.RUNNING
    ) -> None:
        self.states, self.refusals, self.state = states, refusals, state
        self.told: list[str] = []

    async def open_control(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unreachable("not yet")

    async def follow_state(self) -> AsyncIterator[AgentState]:
        for state in self.states:
            yield state

    async def freeze(self, *, disks: bool) -> None:
        self.told.append(f"freeze {disks}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def pass_on(value: object, *_: object, **__: object) -> AsyncIterator[object]:
        yield value

    monkeypatch.setattr(workload, "open_connection", pass_on)
    monkeypatch.setattr(workload, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(workload, "RETRY_SECONDS", 0.0)


async def hold(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def open_control(_: object) -> AsyncIterator[Guest]:
        yield guest

    monkeypatch.setattr(workload, "open_control", open_control)
    machine: Any = guest
    async with held_workload(machine, Keys("", "")):
        guest.told.append("taken")


async def test_it_is_held_once_it_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    states = (AgentState(phase="running", health="starting"), AgentState(phase="running", health="healthy"))
    guest = Guest(*states, refusals=2)
    await hold(guest, monkeypatch)
    assert guest.told == ["freeze False", "taken"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (AgentState(phase="running"), "it has no health check"),
        (AgentState(phase="failed", health="unhealthy", health_reason="no such file"), "no such file"),
        (AgentState(phase="running", health="starting", result=3), "running"),
    ],
)  # fmt: skip
async def test_one_that_is_never_healthy_is_told(
    state: AgentState, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = Guest(state)
    with pytest.raises(GuestFailed, match=words):
        await hold(guest, monkeypatch)
    assert guest.told == []


async def test_one_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "HEALTHY_SECONDS", 0.05)
    with pytest.raises(GuestFailed, match=r"not healthy after 0\.05 s"):
        await hold(Guest(refusals=1 << 30), monkeypatch)


async def test_a_machine_that_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable):
        await hold(Guest(refusals=1, state=MachineState.ENDED), monkeypatch)
