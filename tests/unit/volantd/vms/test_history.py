# SPDX-License-Identifier: Apache-2.0
"""What a change leaves behind: who made it, from what to what, and what of it has yet to count."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.memory_daemon import answer_for_agents, create_running, start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost
from volant.errors import InvalidInput
from volant.volantd.network.types import PortRequest
from volant.volantd.request_context import RequestContext, enter_request
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.resource import open_store
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.history import KEPT_CHANGES, FieldChange
from volant.volantd.vms.update import VmUpdate


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return answer_for_agents(monkeypatch)


async def test_each_change_tells_who_made_it_and_waits_until_the_next_start(tmp_path: Path) -> None:
    enter_request(RequestContext("request-1", who="token ci"))
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        record = await create_running(fleet, "one")
        history = fleet.domain.history
        await fleet.update("one", VmUpdate(vcpu=2, env={"KEY": "secret"}, labels={"tier": "web"}))
        await fleet.update("one", VmUpdate(vcpu=2))
        await fleet.update("one", VmUpdate(vcpu=3, env={"KEY": "other"}, labels={"tier": None}))
        first, second = history.read(fleet.get("one"))
        assert (first.who, first.request_id, first.action) == ("token ci", "request-1", "update")
        assert first.fields == (
            FieldChange("vcpu", "1", "2"),
            FieldChange("env.KEY", None, "***"),
            FieldChange("labels.tier", None, "web"),
        )
        assert second.fields == (
            FieldChange("vcpu", "2", "3"),
            FieldChange("env.KEY", "***", "***"),
            FieldChange("labels.tier", "web", None),
        )
        assert (first.pending, second.pending) == ((), ("env", "vcpu")), "the later change is what waits"
        assert "secret" not in repr(history.read(record))
        await fleet.stop("one", force=True)
        assert [change.pending for change in history.read(await fleet.start("one"))] == [(), ()]


async def test_ports_and_a_restored_snapshot_are_changes_too(tmp_path: Path) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create_running(fleet, "one")
        await acts.take(fleet, open_store(fleet.domain), "one", "then")
        await fleet.update("one", VmUpdate(memory_mb=1024, publish=[PortRequest(9, host_ip="127.0.0.9")]))
        usual = str(fleet.get("one").definition.resources.memory_mb)
        await acts.restore(fleet, open_store(fleet.domain), "one", "then")
        update, restore = fleet.domain.history.read(fleet.get("one"))
        assert [field.name for field in update.fields] == ["memory_mb", "publish"]
        assert (update.fields[1].after or "").endswith(":9/tcp")
        assert (restore.action, [field.name for field in restore.fields]) == ("restore", ["memory_mb"])
        assert (restore.fields[0].before, usual) == ("1024", "1024")


async def count(fleet: Fleet) -> int:
    row = fleet.domain.database.fetch_one("SELECT count(*) AS count FROM vm_changes")
    assert row is not None
    return int(row["count"])


async def test_it_is_bounded_and_goes_with_its_vm(tmp_path: Path) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        await create_running(fleet, "one")
        await create_running(fleet, "two")
        await fleet.update("two", VmUpdate(vcpu=2))
        for number in range(KEPT_CHANGES + 5):
            await fleet.update("one", VmUpdate(labels={"n": str(number)}))
        changes = fleet.domain.history.read(fleet.get("one"))
        assert len(changes) == KEPT_CHANGES
        assert changes[-1].fields == (FieldChange("labels.n", "103", "104"),)
        with pytest.raises(InvalidInput):
            await fleet.update("one", VmUpdate(disk_size="x", vcpu=4))
        assert fleet.domain.history.read(fleet.get("one")) == changes, "what was refused has changed nothing"
        await fleet.delete("one", force=True)
        assert await count(fleet) == 1
