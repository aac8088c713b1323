# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os

import pytest

from support.sleeping_process import start_sleeping
from volant.errors import Conflict
from volant.volantd.hypervisors.base import EndKind, MachineEnd, MachineState, VmSpec
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.host_process import take_child
from volant.volantd.hypervisors.process_machine import ProcessMachine

SECONDS = 30


class SleepingMachine(ProcessMachine):
    steps: list[str]

    def __init__(self, spec: VmSpec, pid: int, console_begin: int = 0) -> None:
        super().__init__(spec, take_child(pid), console_begin)
        self.steps = []

    async def _let_go(self) -> None:
        self.steps.append("let go")

    def _explain(self, known: KnownEnd) -> MachineEnd:
        self.steps.append("explain")
        self.known = known
        return known.explain_host("sleep") or known.explain_status("sleep") or known.explain_silence("sleep")

    def _remove_files(self) -> None:
        self.steps.append("remove")


async def test_its_end_is_explained_once_and_told_to_all(sleeping: VmSpec) -> None:
    sleeping.console_log.write_text("an earlier start\n")
    machine = SleepingMachine(sleeping, start_sleeping(), sleeping.console_log.stat().st_size)
    with sleeping.console_log.open("a") as log:
        log.write("this start\n")
    sleeping.hypervisor_log.write_text("its own words\n")
    waiting = [asyncio.create_task(machine.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert machine.state is MachineState.RUNNING
    os.kill(machine.identity.pid, 11)
    end = await asyncio.wait_for(waiting[1], SECONDS)
    assert (end.kind, end.signal, end.reason) == (EndKind.CRASHED, "SIGSEGV", "sleep was ended by SIGSEGV")
    assert machine.steps == ["let go", "explain", "remove"]
    assert (list(machine.known.console), list(machine.known.log)) == (["this start"], ["its own words"])
    assert machine.state is MachineState.ENDED
    with pytest.raises(Conflict, match="cannot pause sleeping: it is ended"):
        machine._require(MachineState.RUNNING, "pause")


async def test_it_is_killed(sleeping: VmSpec) -> None:
    machine = SleepingMachine(sleeping, start_sleeping())
    assert (await machine.kill()).kind is EndKind.KILLED
    assert (await machine.kill()).kind is EndKind.KILLED
    assert machine.steps == ["let go", "explain", "remove"]
