# SPDX-License-Identifier: Apache-2.0
"""Whoever cannot get into a VM is told why, and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.template_shapes import make_spec
from support.vm_records import make_record
from volant.errors import Unreachable, WrongState
from volant.volantd.vms.monitor import VmMonitor
from volant.volantd.vms.reaching import reach_guest
from volant.volantd.vms.states import VmState


def make_monitor(guest: object) -> VmMonitor:
    async def wait_connected(_timeout_seconds: float) -> Any:
        return guest

    return cast(VmMonitor, SimpleNamespace(wait_connected=wait_connected))


@pytest.mark.parametrize(
    ("state", "verb"),
    [(VmState.STOPPED, "start"), (VmState.PAUSED, "unpause"), (VmState.SUSPENDED, "resume")],
)
async def test_one_that_does_not_run_is_started_by_the_right_verb(state: VmState, verb: str) -> None:
    with pytest.raises(WrongState) as caught:
        await reach_guest(replace(make_record(), state=state), make_monitor("guest"), 1)
    assert f"volar vms {verb} my_vm" in str(caught.value.resolution)


async def test_an_agent_that_is_not_there_or_does_not_answer(tmp_path: Path) -> None:
    running = replace(make_record(), state=VmState.RUNNING)
    guest: object = object()
    assert await reach_guest(running, make_monitor(guest), 1) is guest
    with pytest.raises(Unreachable, match="does not answer"):
        await reach_guest(running, make_monitor(None), 1)
    with pytest.raises(Unreachable, match="its own system"):
        await reach_guest(
            replace(running, spec=replace(make_spec(tmp_path), kernel=None)), make_monitor("guest"), 1
        )
