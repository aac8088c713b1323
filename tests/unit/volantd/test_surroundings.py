# SPDX-License-Identifier: Apache-2.0
"""What a running daemon does about what comes and goes around it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.errors import Conflict
from volant.volantd import surroundings
from volant.volantd.opened_state import make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms.fleet import Fleet


async def test_it_ends_when_its_socket_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "SURROUNDINGS_SECONDS", 0.01)
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    settings.socket.touch()
    ended = asyncio.Event()
    with contextlib.ExitStack() as stack:
        fleet = Fleet(make_domain(settings, MemoryHypervisor(MemoryHost()), stack))
        watching = asyncio.create_task(surroundings.watch_surroundings(settings, fleet, ended))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(watching), 0.2)
        assert not ended.is_set()
        settings.socket.unlink()
        await asyncio.wait_for(watching, 10)
        assert ended.is_set()


async def test_a_bridge_that_cannot_be_made_again_keeps_nobody_from_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*, is_host_open: bool) -> None:
        raise Conflict("cannot make the bridge: no rights")

    monkeypatch.setattr(surroundings, "install_bridge", refuse)
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    await surroundings.restore_bridge(settings)
    assert not caplog.messages, "nobody has set one up"
    settings.bridge_mark.touch()
    await surroundings.restore_bridge(settings)
    assert caplog.messages == ["bridged VMs cannot start: cannot make the bridge: no rights"]
