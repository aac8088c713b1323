# SPDX-License-Identifier: Apache-2.0
"""A key stands for one VM as long as that exists; two requests with one key make one VM; a kill loses neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from volant.errors import Conflict, InvalidInput
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.request_keys import RequestKey

KEY = RequestKey("uid 0", "k1", b"{}")
WANTED = NewVm(name="a", plugin="web", network="vsock")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        yield fleet


async def test_the_same_request_makes_one_vm_however_often_and_at_once(fleet: Fleet) -> None:
    made = await asyncio.gather(*(fleet.create_once(KEY, WANTED, fleet.create) for _ in range(5)))
    assert len({record.id for record, _ in made}) == 1
    assert sorted(is_replayed for _, is_replayed in made) == [False, True, True, True, True]
    assert len(fleet.list_all()) == 1
    assert fleet.request_keys._busy == {}


async def test_a_key_is_of_one_client_and_of_one_request(fleet: Fleet) -> None:
    await fleet.create_once(KEY, WANTED, fleet.create)
    with pytest.raises(InvalidInput, match="something else"):
        await fleet.create_once(replace(KEY, content=b"other"), WANTED, fleet.create)
    with pytest.raises(Conflict, match="taken"):
        await fleet.create_once(replace(KEY, who="token ci"), WANTED, fleet.create)
    other, _ = await fleet.create_once(replace(KEY, text="k2"), replace(WANTED, name="b"), fleet.create)
    assert other.name == "b"


async def test_a_key_goes_with_its_vm(fleet: Fleet) -> None:
    first, _ = await fleet.create_once(KEY, WANTED, fleet.create)
    await fleet.delete("a", force=True)
    second, is_replayed = await fleet.create_once(KEY, WANTED, fleet.create)
    assert (second.id != first.id, is_replayed) == (True, False)


async def test_a_request_that_failed_leaves_no_key(fleet: Fleet) -> None:
    async def fail(request: NewVm) -> None:
        await fleet.create(replace(request, start=False))
        await fleet.delete("a", force=True)
        raise Conflict("cannot start")

    with pytest.raises(Conflict, match="cannot start"):
        await fleet.create_once(KEY, WANTED, fail)  # type: ignore[arg-type]  # never returns
    assert not (await fleet.create_once(KEY, WANTED, fleet.create))[1]


async def test_what_a_kill_cut_off_before_its_start_is_made_anew(fleet: Fleet) -> None:
    cut_off = await fleet.create(replace(WANTED, start=False, key=KEY))
    record, is_replayed = await fleet.create_once(KEY, WANTED, fleet.create)
    assert (record.id != cut_off.id, record.state.value, is_replayed) == (True, "starting", False)
    idle = replace(KEY, text="k2")
    await fleet.create(replace(WANTED, name="idle", start=False, key=idle))
    record, is_replayed = await fleet.create_once(
        idle, replace(WANTED, name="idle", start=False), fleet.create
    )
    assert (record.state.value, is_replayed) == ("created", True)
