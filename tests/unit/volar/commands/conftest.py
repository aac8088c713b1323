# SPDX-License-Identifier: Apache-2.0
"""A stack of two services in a folder of its own, over the whole API in this process; its VMs are fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Done, Volar

SHOP = """
name: shop
services:
  web: {image: part, restart: always, ports: ["127.0.0.1::80"], depends_on: [db], environment: {A: "1", B: "1"}}
  db: {image: part, restart: always}
"""
Shop = Callable[..., Done]


@pytest.fixture
def shop(
    volar: Volar, daemon: InProcessDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """`volar compose` there."""
    daemon.install("part")
    (tmp_path / "compose.yaml").write_text(SHOP)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        return volar("compose", *arguments)

    yield call
    call("down", "-v", "-t", "0")
