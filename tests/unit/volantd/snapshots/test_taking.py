# SPDX-License-Identifier: Apache-2.0
"""A hypervisor that gives a running machine no new layer has its disk copied, while everything stands still."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.fake_hypervisor import FakeHypervisor, FakeMachine
from support.in_process_daemon import InProcessDaemon, start_in_process
from support.plugin_files import make_data_plugin
from volant.errors import ToolFailed, VolantError
from volant.volantd.hypervisors.base import MachineState


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessDaemon]:
    monkeypatch.setattr(
        FakeHypervisor, "capabilities", replace(FakeHypervisor.capabilities, live_layers=False)
    )
    with start_in_process() as daemon:
        daemon.upload(make_data_plugin("web"))
        daemon.client.create_vm({"name": "a", "plugin": "web", "network": "vsock"})
        daemon.client.wait("a", "healthy", timeout_seconds=60)
        yield daemon


def find_disk(daemon: InProcessDaemon) -> Path:
    (disk,) = daemon.home.glob("vms/*/root.qcow2")
    return disk


def test_it_is_copied_and_the_vm_goes_on(daemon: InProcessDaemon) -> None:
    before = find_disk(daemon).stat().st_ino
    daemon.client.create_snapshot("a", "then")
    (layer,) = daemon.home.glob("layers/*")
    assert layer.read_bytes() == find_disk(daemon).read_bytes()
    assert find_disk(daemon).stat().st_ino == before != layer.stat().st_ino
    assert daemon.client.get_vm("a")["status"] == "running"
    daemon.client.delete("/snapshots/then")
    assert list(daemon.home.glob("layers/*")) == []


def test_a_copy_that_fails_leaves_a_vm_that_runs_and_no_snapshot(
    daemon: InProcessDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: FakeMachine, *_: object) -> None:
        assert self.state is MachineState.PAUSED
        raise ToolFailed("cannot copy it")

    monkeypatch.setattr(FakeMachine, "copy_disk", fail)
    with pytest.raises(VolantError, match="cannot copy it"):
        daemon.client.create_snapshot("a", "then")
    assert daemon.client.list_snapshots() == []
    assert list(daemon.home.glob("layers/*")) == []
    assert daemon.client.get_vm("a")["health"] == "healthy"
