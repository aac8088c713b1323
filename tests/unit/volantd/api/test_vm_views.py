# SPDX-License-Identifier: Apache-2.0
"""What is kept of a VM is what its row says now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.memory_fleet import open_fleet
from volant.errors import NotFound
from volant.volantd.api import vm_views
from volant.volantd.api.vm_view import describe_vm
from volant.volantd.api.vm_views import VmViews
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.update import VmUpdate


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        for name in ("a", "b", "c"):
            await fleet.create(NewVm(name=name, plugin="web", network="user", start=False))
        yield fleet


async def read_list(views: VmViews, fleet: Fleet) -> list[Any]:
    ids = [vm_id for vm_id, _ in fleet.domain.registry.list_page(after="", limit=10)]
    return list(json.loads(b"".join([piece async for piece in views.render_list(ids)])))


async def test_a_change_of_the_row_is_seen_and_nothing_else_renders(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = VmViews(fleet)
    before = await read_list(views, fleet)
    rendered: list[str] = []

    def count(*arguments: Any) -> Any:
        rendered.append(arguments[1].name)
        return describe_vm(*arguments)

    monkeypatch.setattr(vm_views, "describe_vm", count)
    assert await read_list(views, fleet) == before
    assert json.loads(views.render("a")) == before[0]
    assert rendered == []
    await fleet.update("b", VmUpdate(labels={"tier": "front"}))
    after = await read_list(views, fleet)
    assert rendered == ["b"]
    assert after[1].pop("labels") == {"tier": "front"}
    assert before[1].pop("labels") == {}
    assert after == before


async def test_an_older_record_that_is_rendered_late_hides_no_change(fleet: Fleet) -> None:
    views = VmViews(fleet)
    older = fleet.get("a")
    await fleet.update("a", VmUpdate(labels={"tier": "front"}))
    assert json.loads(views.render_record(older))["labels"] == {}
    assert json.loads(views.render("a"))["labels"] == {"tier": "front"}


async def test_what_a_machine_complains_about_is_seen_although_no_row_says_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = VmViews(fleet)
    await fleet.start("a")
    assert json.loads(views.render("a"))["status_reason"] == ""
    monkeypatch.setattr(fleet, "find_problem", lambda vm_id: "no space left")
    assert json.loads(views.render("a"))["status_reason"] == "no space left"
    monkeypatch.undo()
    assert json.loads(views.render("a"))["status_reason"] == ""
    await fleet.delete("a", force=True)


async def test_one_that_is_deleted_is_in_no_list_and_found_no_more(fleet: Fleet) -> None:
    views = VmViews(fleet)
    ids = [vm_id for vm_id, _ in fleet.domain.registry.list_page(after="", limit=10)]
    await fleet.delete("b")
    with pytest.raises(NotFound):
        views.render("b")
    pieces = [piece async for piece in views.render_list(ids)]
    assert [vm["name"] for vm in json.loads(b"".join(pieces))] == ["a", "c"]
    await fleet.delete("a")
    await fleet.delete("c")
    assert b"".join([piece async for piece in views.render_list(ids)]) == b"[]"
    assert await read_list(views, fleet) == []
    assert len(views._rendered) == 0


async def test_a_name_is_another_vms_once_it_was_given_again(fleet: Fleet) -> None:
    views = VmViews(fleet)
    before = json.loads(views.render("a"))["id"]
    assert json.loads(views.render(before))["name"] == "a"
    await fleet.delete("a", force=True)
    for asked in ("a", before):
        with pytest.raises(NotFound):
            views.render(asked)
    await fleet.create(NewVm(name="a", plugin="web", network="user", start=False))
    after = json.loads(views.render("a"))["id"]
    assert after != before
    assert json.loads(views.render("a"))["id"] == after


async def test_one_that_changes_while_the_list_is_made_is_in_it(fleet: Fleet) -> None:
    views = VmViews(fleet)
    # In the pause after all have been rendered.
    asyncio.get_running_loop().call_soon(lambda: fleet.domain.registry.update(fleet.get("b"), exit_code=3))
    listed = await read_list(views, fleet)
    assert [(vm["name"], vm["exit_code"]) for vm in listed] == [("a", None), ("b", 3), ("c", None)]


async def test_a_vm_whose_plugins_row_is_damaged_is_shown_with_the_others(fleet: Fleet) -> None:
    fleet.domain.database.execute("UPDATE plugins SET manifest = 'garbage'")
    found = await read_list(VmViews(fleet), fleet)
    assert [(vm["name"], vm["url"]) for vm in found] == [("a", None), ("b", None), ("c", None)]
