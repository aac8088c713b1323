# SPDX-License-Identifier: Apache-2.0
"""Each VM is made for one kind of hypervisor, and stays with it; what that kind cannot is refused beforehand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from support.memory_hypervisor import MemoryHost, MemoryHypervisor
from volant.contract.agents import Architecture
from volant.errors import Conflict
from volant.volantd.boot.kernel import host_architecture
from volant.volantd.hypervisors.base import HypervisorKind, MemoryImage
from volant.volantd.hypervisors.cloud_hypervisor.driver import CloudHypervisor
from volant.volantd.vms.definition import NewVm, Origin
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.hypervisor_choice import choose_hypervisor
from volant.volantd.vms.record import AttachedSecret, WakeSource

WANTED = NewVm(name="a", plugin="web", network="vsock", hypervisor="cloud-hypervisor")
OTHER: Architecture = "amd64" if host_architecture() == "arm64" else "arm64"


class SecondHypervisor(MemoryHypervisor):
    """Machines in memory, with what Cloud Hypervisor can and cannot."""

    kind: HypervisorKind = "cloud-hypervisor"
    capabilities = CloudHypervisor.capabilities


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path, [SecondHypervisor(MemoryHost())]) as fleet:
        yield fleet


async def test_a_vm_stays_with_the_kind_that_it_was_made_for(fleet: Fleet) -> None:
    assert (await fleet.create(replace(WANTED, name="usual", hypervisor=None))).hypervisor == "qemu"
    record = await fleet.create(WANTED)
    assert record.hypervisor == "cloud-hypervisor"
    process = record.process
    await fleet.stop("a", force=True)
    record = await fleet.start("a")
    assert record.hypervisor == "cloud-hypervisor"
    assert record.process != process
    assert fleet.domain.find_hypervisor(record.hypervisor) is fleet.domain.others[0]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(WANTED, network="user"), "no user-mode network"),
        (replace(WANTED, architecture=OTHER), f"emulates no {OTHER}"),
        (replace(WANTED, secrets=[AttachedSecret(name="key", port=9001, uid=33)]), "which user of the guest"),
        (replace(WANTED, disk_bandwidth="50M"), "does not bound what disks read"),
    ],
)
async def test_what_it_cannot_is_refused_before_anything_is_made(
    fleet: Fleet, request_: NewVm, reason: str
) -> None:
    fleet.domain.secrets.set("key", b"value")
    with pytest.raises(Conflict, match=reason) as raised:
        await fleet.create(request_)
    assert raised.value.what.startswith("cannot create VM a on cloud-hypervisor: ")
    assert raised.value.resolution
    assert fleet.list_all() == []


async def test_auto_takes_what_is_installed_and_can(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    auto = replace(WANTED, hypervisor="auto", start=False)
    assert (await fleet.create(replace(auto, name="both"))).hypervisor == "qemu"
    monkeypatch.setattr(MemoryHypervisor, "is_installed", lambda self, _: self.kind == "cloud-hypervisor")
    assert (await fleet.create(replace(auto, name="one"))).hypervisor == "cloud-hypervisor"
    # It could not do it: the usual one tells what is missing.
    assert (await fleet.create(replace(auto, name="none", network="user"))).hypervisor == "qemu"


async def test_memory_wakes_on_its_own_kind(fleet: Fleet) -> None:
    record = await fleet.create(WANTED)
    assert record.spec is not None
    wake = WakeSource(
        image=MemoryImage(Path("/nowhere")),
        spec=record.spec,
        control_key="",
        host_key="",
        hypervisor=record.hypervisor,
    )
    definition = record.definition
    plugin = fleet.domain.plugins.load("web")
    copy = NewVm(name="b", plugin="web", origin=Origin(definition, None, wake))
    assert choose_hypervisor(fleet.domain, copy, plugin, definition).kind == "cloud-hypervisor"
    with pytest.raises(Conflict, match="the memory that it wakes from is of cloud-hypervisor"):
        choose_hypervisor(fleet.domain, replace(copy, hypervisor="qemu"), plugin, definition)


async def test_memory_of_before_there_was_a_choice_is_of_qemu(fleet: Fleet) -> None:
    record = await fleet.create(WANTED)
    document = WakeSource(
        image=MemoryImage(Path("/nowhere")), spec=record.spec, control_key="", host_key="",
    ).model_dump()  # fmt: skip
    del document["hypervisor"]
    assert WakeSource.model_validate(document).hypervisor == "qemu"


async def test_a_kind_that_this_daemon_does_not_know_is_said(fleet: Fleet) -> None:
    with pytest.raises(Conflict, match="works with qemu and cloud-hypervisor"):
        fleet.domain.find_hypervisor("firecracker")
