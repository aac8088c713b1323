# SPDX-License-Identifier: Apache-2.0
"""Whom of the bridge's VMs the rules are about, as the rows say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.memory_fleet import open_fleet
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmDefinition, VmRecord, VmResources
from volant.volantd.vms.states import VmState


def add(fleet: Fleet, name: str, number: int, **definition: Any) -> VmRecord:
    made = VmDefinition(resources=VmResources(vcpu=1, memory_mb=128), network="bridged", **definition)
    record = fleet.domain.registry.add(
        name=name, plugin=("web", "1.0.0"), definition=made, address=f"192.168.127.{number}", mac=f"m{number}",
        ports=(), control_key="", host_key="", hypervisor="qemu",
    )  # fmt: skip
    return fleet.domain.registry.move(record, "start", VmState.STARTING)


async def test_the_bridge_is_one_network_until_somebody_asks_for_another(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        registry = fleet.domain.registry
        fleet.domain.networks.create("inner", internal=True, labels={})
        add(fleet, "plain", 100)
        add(fleet, "apart", 101, isolated=True)
        assert registry.list_bridged_guests() == []
        add(fleet, "inner", 102, networks=["inner"])
        found = {guest.name: (guest.networks, guest.leads_out) for guest in registry.list_bridged_guests()}
        assert found == {"plain": (("default",), True), "apart": ((), True), "inner": (("inner",), False)}


async def test_who_is_held_to_a_list_is_who_runs_and_has_one(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        registry = fleet.domain.registry
        add(fleet, "open", 100)
        held = add(fleet, "held", 101, egress="a.example")
        assert [(guest.name, guest.egress.names) for guest in registry.list_held_guests()] == [
            ("held", ("a.example",))
        ]
        registry.move(held, "run", VmState.FAILED)
        assert registry.list_held_guests() == []
