# SPDX-License-Identifier: Apache-2.0
"""A guest that is held for a snapshot, and the mark by which it is let go whatever becomes of the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from support.vm_records import make_record
from volant.errors import Unreachable
from volant.volantd.vms import holding
from volant.volantd.vms.holding import held, is_held, mark_held, unmark_held
from volant.volantd.vms.monitor import Guest
from volant.volantd.vms.running_vm import RunningVm


def test_a_held_guest_is_known_by_a_file_until_it_goes_on(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    mark_held(tmp_path)
    mark_held(tmp_path)
    assert is_held(tmp_path)
    unmark_held(tmp_path)
    unmark_held(tmp_path)
    assert not is_held(tmp_path)


async def test_it_is_not_held_again_before_it_goes_on_from_the_last_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    may_go_on = asyncio.Event()

    async def freeze(*, disks: bool) -> None:
        told.append(f"freeze {disks}")

    async def let_go(_timeout_seconds: float) -> None:
        told.append("let go")

    async def go_on() -> None:
        await may_go_on.wait()
        told.append("went on")

    going_on = asyncio.create_task(go_on())
    files = SimpleNamespace(folder=tmp_path)
    vm = cast(RunningVm, SimpleNamespace(record=make_record(), files=files, let_go=let_go, going_on=going_on))
    guest = cast(Guest, SimpleNamespace(control=SimpleNamespace(freeze=freeze)))

    async def hold() -> None:
        async with held(vm, guest, disks=False):
            told.append("held")

    monkeypatch.setattr(holding, "LET_GO_SECONDS", 0.01)
    with pytest.raises(Unreachable, match="has not continued after the last time"):
        await hold()
    assert not is_held(tmp_path)
    monkeypatch.setattr(holding, "LET_GO_SECONDS", 60.0)
    holds = asyncio.create_task(hold())
    await asyncio.sleep(0)
    may_go_on.set()
    await holds
    assert told == ["went on", "freeze False", "held", "let go"]
