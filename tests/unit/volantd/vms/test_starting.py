# SPDX-License-Identifier: Apache-2.0
"""Who asks for a boot gets one, until the VM has run: its guest may be reset on the way, or the daemon killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.memory_daemon import start_daemon_with_plugin
from support.memory_fleet import open_fleet
from support.memory_hypervisor import MemoryHost, MemoryProcess
from volant.volantd.hypervisors.base import EndKind
from volant.volantd.vms import starting
from volant.volantd.vms.definition import NewVm, Origin
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.lifecycle import Started, boot_vm, no_wake
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import VmState

COLD = NewVm(name="one", plugin="web", cold=True)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of each start whether it asked for a template."""
    found: list[str] = []

    async def boot(*arguments: Any) -> Started:
        found.append("boot" if no_wake in arguments else "any")
        return await boot_vm(*arguments)

    monkeypatch.setattr(starting, "boot_vm", boot)
    return found


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # a row
            await asyncio.sleep(0.01)


def find_process(fleet: Fleet, host: MemoryHost) -> MemoryProcess:
    identity = fleet.get("one").process
    return next(process for process in host.living if process.identity == identity)


async def reset(fleet: Fleet, host: MemoryHost) -> None:
    """Its guest asks for it; returns once the next one is there."""
    process = find_process(fleet, host)
    process.finish(EndKind.REBOOTED)
    await wait_until(lambda: fleet.get("one").process not in (None, process.identity))


async def test_a_guest_that_is_reset_while_it_boots_boots_again(tmp_path: Path, starts: list[str]) -> None:
    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        record = await fleet.create(COLD)
        for _ in range(2):
            await reset(fleet, host)
        assert (starts, fleet.get("one").restarts) == (["boot"] * 3, 2)
        # It was asked for until it runs.
        fleet.find(record.id).note_running()
        await reset(fleet, host)
        assert starts == [*["boot"] * 3, "any"]


async def test_the_next_daemon_knows_what_was_asked_for(
    tmp_path: Path, starts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_killed(*_: object) -> None:
        pass

    host = MemoryHost()
    with monkeypatch.context() as patches:
        patches.setattr(RunningVm, "start_again", be_killed)
        async with start_daemon_with_plugin(tmp_path, host) as fleet:
            await fleet.create(COLD)
            find_process(fleet, host).finish(EndKind.REBOOTED)
            await wait_until(lambda: fleet.get("one").state is VmState.STOPPED)
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        await wait_until(lambda: fleet.get("one").process is not None)
        assert starts == ["boot", "boot"]


async def test_the_first_start_boots_whenever_it_comes(tmp_path: Path, starts: list[str]) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.create(replace(COLD, start=False))
        await fleet.start("one")
        await fleet.stop("one", force=True)
        await fleet.start("one")  # by somebody who asked for nothing
        await fleet.stop("one", force=True)
        await fleet.start("one", cold=True)
        assert starts == ["boot", "any", "boot"]


async def test_a_copy_is_asked_for_itself(tmp_path: Path, starts: list[str]) -> None:
    async with open_fleet(tmp_path) as fleet:
        definition = (await fleet.create(COLD)).definition
        assert definition.cold
        copy = NewVm(name="copy", plugin="web", origin=Origin(definition, None, None))
        await fleet.create(copy)
        await fleet.create(replace(copy, name="other", cold=True))
        assert starts == ["boot", "any", "boot"]
