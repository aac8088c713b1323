# SPDX-License-Identifier: Apache-2.0
"""That there is a template for the next VM of a shape, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.template_shapes import TemplateHypervisor, make_shape
from volant.errors import ToolFailed, Unreachable
from volant.volantd.templates import making
from volant.volantd.templates.store import TemplateStore
from volant.volantd.templates.supply import TemplateSupply


@pytest.fixture(autouse=True)
def _no_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(_stream: object, *, timeout_seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(making, "wait_for_template", wait)


def make_supply(tmp_path: Path, hypervisor: Any, *, is_on: bool = True) -> TemplateSupply:
    return TemplateSupply(TemplateStore(tmp_path / "templates"), hypervisor, tmp_path, is_on)


async def test_a_shape_is_provided_once_however_many_ask(tmp_path: Path) -> None:
    hypervisor = TemplateHypervisor()
    supply = make_supply(tmp_path, hypervisor)
    shape = make_shape(tmp_path, hypervisor)
    assert supply.find(shape) is None
    made = await asyncio.gather(*(supply.provide(shape) for _ in range(3)))
    assert len(hypervisor.started) == 1
    assert [template for template in made if template] == [supply.find(shape)]


async def test_one_that_failed_is_not_tried_again_until_all_are_cleared(tmp_path: Path) -> None:
    hypervisor = TemplateHypervisor(failure=ToolFailed("no"))
    supply = make_supply(tmp_path, hypervisor)
    shape = make_shape(tmp_path, hypervisor)
    assert [await supply.provide(shape) for _ in range(2)] == [None, None]
    assert len(hypervisor.started) == 1
    hypervisor.failure = None
    await supply.clear()
    template = await supply.provide(shape)
    assert template is not None
    supply.forget(template)
    assert supply.find(shape) is None
    assert await supply.provide(shape) is None


async def test_a_guest_that_went_away_is_tried_again(tmp_path: Path) -> None:
    hypervisor = TemplateHypervisor(failure=Unreachable("it booted again"))
    supply = make_supply(tmp_path, hypervisor)
    assert await supply.provide(make_shape(tmp_path, hypervisor)) is None
    assert len(hypervisor.started) == 3


async def test_nothing_happens_where_it_is_off(tmp_path: Path) -> None:
    hypervisor = TemplateHypervisor()
    shape = make_shape(tmp_path, hypervisor)
    assert await make_supply(tmp_path, hypervisor).provide(shape) is not None
    off = make_supply(tmp_path, hypervisor, is_on=False)
    assert off.find(shape) is None
    assert await off.provide(shape) is None
