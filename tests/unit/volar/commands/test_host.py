# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from unit.volar.conftest import Volar
from volant.volar.commands import host

VOLANTD = [sys.executable, "-c", "from volant.programs import volantd; volantd()"]


@pytest.mark.parametrize(
    ("words", "usage"), [(["setup", "--help"], "volar setup"), (["doctor", "-x"], "volar doctor")]
)
def test_setup_and_doctor_go_by_the_name_that_was_typed(
    volar: Volar, monkeypatch: pytest.MonkeyPatch, words: list[str], usage: str
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(host, "find_daemon_program", lambda: VOLANTD)
    monkeypatch.setattr(host, "become_program", became.append)
    assert volar(*words).exit_code == 0
    done = subprocess.run(became[0], capture_output=True, text=True, env=dict(os.environ), timeout=60)
    said = done.stdout + done.stderr
    assert f"Usage: {usage} " in said
    assert "volantd" not in said.splitlines()[0]
