# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from volant.volantd import folder_changes
from volant.volantd.folder_changes import watch_folder


@pytest.mark.asyncio
async def test_every_name_that_comes_or_goes_is_told(tmp_path: Path) -> None:
    async with watch_folder(tmp_path) as changed, asyncio.timeout(60):
        for act in (
            (tmp_path / "draft").touch,
            lambda: (tmp_path / "draft").rename(tmp_path / "whole"),
            (tmp_path / "whole").unlink,
        ):
            assert not changed.is_set()
            act()
            await changed.wait()
            changed.clear()


@pytest.mark.asyncio
async def test_where_nothing_can_be_watched_it_is_looked_at_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_changes, "LOOK_SECONDS", 0.01)
    async with watch_folder(tmp_path / "none") as changed, asyncio.timeout(60):
        await changed.wait()
