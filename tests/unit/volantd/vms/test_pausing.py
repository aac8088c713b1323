# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from support.memory_daemon import create_running, start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost, MemoryMachine
from volant.errors import ToolFailed, WrongState
from volant.volantd.vms.states import VmState


async def test_a_pause_that_fails_leaves_the_vm_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> None:
        raise ToolFailed("cannot pause it")

    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create_running(fleet, "one")
        with monkeypatch.context() as patch:
            patch.setattr(MemoryMachine, "pause", fail)
            with pytest.raises(ToolFailed):
                await fleet.pause("one")
        assert fleet.get("one").state is VmState.RUNNING
        assert (await fleet.pause("one")).state is VmState.PAUSED
        assert (await fleet.unpause("one")).state is VmState.RUNNING
        with pytest.raises(WrongState, match="cannot unpause VM one: it is running"):
            await fleet.unpause("one")


async def test_what_was_paused_is_after_the_daemon_came_back(tmp_path: Path) -> None:
    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        await create_running(fleet, "one")
        await fleet.pause("one")
    host.living[0].go_on()  # as one that was killed between the two
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        assert fleet.get("one").state is VmState.PAUSED
        assert host.living[0].is_paused
