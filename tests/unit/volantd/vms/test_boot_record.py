# SPDX-License-Identifier: Apache-2.0
"""The steps of a boot are noted once, and those of the start before are none of this one's."""

from __future__ import annotations

from pathlib import Path

from support.memory_fleet import open_fleet
from volant.volantd.vms.boot_record import measure_seconds
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.states import VmState


def list_steps(fleet: Fleet, name: str) -> list[str]:
    return [step.name for step in fleet.domain.boots.read(fleet.get(name))]


async def test_each_step_is_noted_at_its_first_time_and_all_begin_anew_with_a_start(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        boots = fleet.domain.boots
        record = await fleet.create(NewVm(name="one", plugin="web", start=False))
        assert boots.read(record) == []
        boots.note(record, "agent", {"connected": True})
        record = await fleet.start("one")
        assert list_steps(fleet, "one")[:2] == ["disk", "machine"]
        vm = fleet.find(record.id)
        vm.tell("agent", record, connected=True)
        vm.move("start", VmState.RUNNING)
        record = vm.record
        vm.tell("health", record, health="unhealthy")
        vm.tell("health", record, health="healthy")
        before = boots.read(record)
        assert [step.name for step in before] == ["disk", "machine", "agent", "running", "healthy"]
        assert [step.seconds for step in before] == sorted(step.seconds for step in before)
        for connected in (False, True):
            vm.tell("agent", record, connected=connected)
        vm.tell("health", record, health="healthy")
        assert boots.read(record) == before
        await fleet.stop("one", force=True)
        assert boots.read(fleet.get("one")) == before
        await fleet.start("one")
        assert list_steps(fleet, "one")[:2] == ["disk", "machine"]
        assert "healthy" not in list_steps(fleet, "one")
        await fleet.delete("one", force=True)
        assert fleet.domain.database.fetch_all("SELECT * FROM vm_boots") == []


async def test_a_boot_that_an_older_volant_began_has_no_steps(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        record = await fleet.create(NewVm(name="one", plugin="web"))
        fleet.domain.database.execute("DELETE FROM vm_boots")
        fleet.find(record.id).tell("agent", record, connected=True)
        assert fleet.domain.boots.read(record) == []


def test_seconds_are_those_between_two_moments() -> None:
    assert measure_seconds("2026-01-01T00:00:59.900Z", "2026-01-01T00:01:01.000Z") == 1.1
