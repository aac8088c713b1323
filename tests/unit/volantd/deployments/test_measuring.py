# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from support.memory_daemon import start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost
from support.tended_daemon import answer_for_guests, end, settle, tended
from volant.volantd.deployments.measuring import measure
from volant.volantd.deployments.record import Template
from volant.volantd.deployments.requests import PolicyRequest
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet


def read(fleet: Fleet) -> dict[tuple[str, ...], float]:
    return {
        (family.name, *sample.labels.values()): sample.value
        for family in measure(fleet.domain)
        for sample in family.samples
        if sample.value
    }


async def test_what_is_measured_is_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_for_guests(monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    async with start_daemon_with_plugin(home, MemoryHost()) as fleet, tended(fleet) as requests:
        assert read(fleet) == {}
        template = Template(vm=NewVm(name="", plugin="web"))
        requests.create("app", 2, template, [], PolicyRequest(), {})
        await settle(fleet, requests, "app")
        await fleet.stop("app-2", force=True)
        await settle(fleet, requests, "app", status="degraded")
        assert read(fleet) == {
            ("volant_deployments", "degraded"): 1, ("volant_deployment_replicas",): 2,
            ("volant_deployment_replicas_ready",): 1,
        }  # fmt: skip
        await end(fleet, requests, "app")
