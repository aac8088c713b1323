# SPDX-License-Identifier: Apache-2.0
"""Deployments of a daemon without its API; its guests are healthy as soon as they run, but for those with `SICK=1`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from volant.contract.agent import AgentState
from volant.errors import NotFound
from volant.volantd.deployments import controller
from volant.volantd.deployments.controller import Controller
from volant.volantd.deployments.requests import DeploymentRequests
from volant.volantd.deployments.view import look_at
from volant.volantd.hypervisors.base import Machine
from volant.volantd.tasks import end_tasks
from volant.volantd.vms import stopping
from volant.volantd.vms.events import Event
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.running_vm import RunningVm

HEALTHY = AgentState(phase="running", health="healthy")
SICK = AgentState(phase="running", health="unhealthy", health_reason="sick")
PATIENCE_SECONDS = 60.0


def answer_for_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGENT_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(controller, "CALM_SECONDS", 0.0)
    follow = RunningVm.follow

    def follow_and_answer(vm: RunningVm, record: VmRecord, machine: Machine) -> None:
        follow(vm, record, machine)
        vm._note_state(SICK if record.definition.env.get("SICK") else HEALTHY)

    monkeypatch.setattr(RunningVm, "follow", follow_and_answer)


@asynccontextmanager
async def tended(fleet: Fleet) -> AsyncIterator[DeploymentRequests]:
    tending = asyncio.ensure_future(Controller(fleet).run())
    try:
        yield DeploymentRequests(fleet.domain)
    finally:
        await end_tasks([tending])


def find_status(fleet: Fleet, requests: DeploymentRequests, name: str) -> str:
    return look_at(requests.store, fleet.domain.registry, requests.store.get(name)).status


async def settle(fleet: Fleet, requests: DeploymentRequests, name: str, *, status: str = "ready") -> None:
    """Until it is so."""
    with fleet.domain.events.listen() as happenings:
        while (found := find_status(fleet, requests, name)) != status:
            try:
                await wait_for_event(happenings)
            except TimeoutError:
                raise AssertionError(f"{name} is {found}, and never {status}") from None


async def wait_for_event(happenings: asyncio.Queue[Event]) -> None:
    """Not by `wait_for`, which up to Python 3.11 loses a cancellation that comes with the event."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await happenings.get()


async def end(fleet: Fleet, requests: DeploymentRequests, name: str) -> None:
    """Delete it, and return when it is gone."""
    with fleet.domain.events.listen() as happenings, contextlib.suppress(NotFound):
        requests.delete(name)
        while requests.store.get(name) is not None:
            await wait_for_event(happenings)
