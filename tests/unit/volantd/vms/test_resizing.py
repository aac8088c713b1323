# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.memory_daemon import create_running, start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.volantd.vms import resizing
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.update import VmUpdate

LIVE = replace(MemoryHypervisor.capabilities, live_resize=True)


class Guest:
    """As much of one as is asked for here."""

    def __init__(self, *features: str) -> None:
        self.taken = 0
        self.control = SimpleNamespace(
            hello=SimpleNamespace(features=features), take_resources=self.take_resources
        )

    async def take_resources(self) -> None:
        self.taken += 1


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    return use(Guest("resources-online"), monkeypatch)


def use(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Guest:
    async def connect(*_: object) -> Guest:
        return guest

    monkeypatch.setattr(RunningVm, "connect", connect)
    monkeypatch.setattr(resizing, "change_limits", lambda spec, pid: None)
    monkeypatch.setattr(MemoryHypervisor, "capabilities", LIVE)
    return guest


async def test_a_vm_that_runs_is_given_more_at_once(tmp_path: Path, guest: Guest) -> None:
    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        before = await create_running(fleet, "one")
        assert before.spec is not None
        more = before.spec.memory_mb + 128
        record = await fleet.update("one", VmUpdate(vcpu=3, memory_mb=more, env={"A": "b"}))
        assert record.pending == ("env",)
        assert (host.living[0].spec.vcpu, host.living[0].spec.memory_mb) == (3, more)
        # As whoever adopts or copies it will know it.
        assert record.spec == host.living[0].spec
        assert guest.taken == 1
        # What it does not give back waits, and what else was asked for does not wait with it.
        record = await fleet.update("one", VmUpdate(vcpu=2, memory_mb=64))
        assert record.pending == ("env", "memory_mb")
        assert (host.living[0].spec.vcpu, host.living[0].spec.memory_mb) == (2, more)
        assert record.definition.resources.memory_mb == 64
        # And no longer once it is to be as it is.
        assert (await fleet.update("one", VmUpdate(memory_mb=more))).pending == ("env",)


async def test_an_agent_that_cannot_take_it_is_given_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, host = use(Guest(), monkeypatch), MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        before = await create_running(fleet, "one")
        assert (await fleet.update("one", VmUpdate(vcpu=3))).pending == ("vcpu",)
        assert host.living[0].spec == before.spec
        assert guest.taken == 0


async def test_a_hypervisor_that_cannot_is_not_asked(
    tmp_path: Path, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryHypervisor, "capabilities", replace(LIVE, live_resize=False))
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create_running(fleet, "one")
        assert (await fleet.update("one", VmUpdate(vcpu=3))).pending == ("vcpu",)
    assert guest.taken == 0
