# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from unit.volar.conftest import Volar


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))


def test_a_daemon_that_does_not_run(volar: Volar, tmp_path: Path) -> None:
    status = volar("daemon", "status", "-o", "json")
    assert status.exit_code == 11
    assert json.loads(status.out)["running"] is False
    assert json.loads(status.out)["log"] == str(tmp_path / "volantd.log")
    assert volar("daemon", "stop").out == "volantd does not run\n"


def test_what_ends_with_it_is_said_beforehand(volar: Volar) -> None:
    assert "ssh sessions" in volar("daemon", "stop", "--help").out
    assert "volar daemon stop, then volar daemon start" in volar("daemon", "restart").err
