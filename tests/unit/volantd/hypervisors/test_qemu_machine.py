# SPDX-License-Identifier: Apache-2.0
"""What QMP's events make of a machine; the real QEMU is an integration test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.fake_qmp import serve_qmp
from support.sleeping_process import start_sleeping
from volant.errors import Conflict
from volant.volantd.hypervisors.base import EndKind, MachineState, VmSpec
from volant.volantd.hypervisors.host_process import take_child
from volant.volantd.hypervisors.qemu_machine import QemuMachine

SECONDS = 30


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  # as a user polls
            await asyncio.sleep(0.01)


async def test_events_are_followed(sleeping: VmSpec) -> None:
    async with serve_qmp(sleeping.socket_folder / "qmp.sock") as qemu:
        machine = QemuMachine(sleeping, take_child(start_sleeping()))
        await machine.connect()
        qemu.tell("BLOCK_IO_ERROR", nospace=True)
        qemu.tell("STOP")
        await wait_for(lambda: machine.state is MachineState.PAUSED)
        assert machine.problem == f"paused: the host's disk is full ({sleeping.socket_folder})"
        qemu.tell("RESUME")
        await asyncio.wait_for(machine.wait_resumed(), SECONDS)
        assert (machine.state, machine.problem) == (MachineState.RUNNING, "")
        with pytest.raises(Conflict, match="keep the CPUs and memory they have"):
            await machine.resize(replace(sleeping, vcpu=2))
        qemu.tell("SHUTDOWN", reason="guest-reset")
        await wait_for(lambda: machine._shutdown_reason != "")
        os.kill(machine.identity.pid, 15)
        end = await asyncio.wait_for(machine.wait(), SECONDS)
        assert end.kind is EndKind.CRASHED  # by whoever sent the signal
        assert not (sleeping.socket_folder / "qmp.sock").exists()
