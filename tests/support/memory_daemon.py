# SPDX-License-Identifier: Apache-2.0
"""A daemon without its API, whose machines are objects of a `MemoryHost`, and a VM in it that its monitor says runs."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from support.plugin_files import make_plugin
from volant.errors import Unreachable
from volant.volantd.daemon import sweep_all
from volant.volantd.opened_state import make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms import waking
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.monitor import VmMonitor
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import VmState


@asynccontextmanager
async def start_daemon(
    home: Path, host: MemoryHost, act: Callable[[], None] = lambda: None
) -> AsyncIterator[Fleet]:
    settings = Settings(state_dir=home, runtime_dir=home / "run", kernel=home.parent / "vmlinux")
    with contextlib.ExitStack() as stack:
        fleet = Fleet(make_domain(settings, MemoryHypervisor(host, act), stack))
        try:
            await sweep_all(fleet)
            vms = [fleet.find(record.id) for record in fleet.list_all()]
            if adoptions := [vm.adoption for vm in vms if vm.adoption is not None]:
                await asyncio.wait(adoptions, timeout=60)
            yield fleet
        finally:
            # A dead daemon's tasks end, and what they would write is refused.
            await fleet.release_all()


@asynccontextmanager
async def start_daemon_with_plugin(home: Path, host: MemoryHost) -> AsyncIterator[Fleet]:
    """With the plugin `web`, whose guests live in RAM."""
    (home.parent / "vmlinux").write_bytes(b"\x7fELF")
    async with start_daemon(home, host) as fleet:
        if not fleet.domain.plugins.list_all():
            await fleet.domain.plugins.install(io.BytesIO(make_plugin()), source="test")
        yield fleet


def answer_for_agents(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Guests' agents do as they are told; returns what they were told."""
    told: list[str] = []

    def tell(word: str) -> Callable[..., Any]:
        async def call(*_: object, **__: object) -> None:
            told.append(word)

        return call

    async def refuse(*_: object) -> None:
        raise Unreachable("this agent ends nothing")

    hello = SimpleNamespace(features=["snapshot", "wake"], agent_version="test")
    control = SimpleNamespace(
        hello=hello, freeze=tell("freeze"), thaw=tell("thaw"), wake=tell("wake"), stop=refuse
    )

    async def wait_connected(*_: object) -> Any:
        return SimpleNamespace(control=control)

    monkeypatch.setattr(VmMonitor, "wait_connected", wait_connected)
    monkeypatch.setattr(waking, "go_on", tell("wake"))
    monkeypatch.setattr(waking, "become", tell("become"))
    return told


async def create_running(fleet: Fleet, name: str, plugin: str = "web") -> VmRecord:
    record = await fleet.create(NewVm(name=name, plugin=plugin, restart="no"))
    return fleet.domain.registry.move(record, "start", VmState.RUNNING)
