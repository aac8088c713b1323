# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from unit.volar.conftest import Volar
from volant.contract.paths import find_contexts_file


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))


def test_daemons_are_kept_chosen_and_forgotten(volar: Volar, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    added = volar("context", "add", "prod", "http://127.0.0.1:7777", "--token-file", str(token))
    assert (added.exit_code, added.out) == (0, "added prod; choose it with volar context use prod\n")
    assert volar("context", "create", "lab", "/run/lab.sock", "--use").exit_code == 0
    assert volar("context", "show").out == "lab\n"
    assert volar("context", "use", "prod").exit_code == 0
    rows = [row.split() for row in volar("context", "ls").out.splitlines()]
    assert rows[1:] == [
        ["-", "default", "this", "user's", "own", "no"],
        ["-", "lab", "/run/lab.sock", "no"],
        ["*", "prod", "http://127.0.0.1:7777", "yes"],
    ]
    assert "t0ken" not in volar("context", "list", "-o", "json").out
    assert "t0ken" in find_contexts_file().read_text()
    assert volar("context", "rm", "prod").exit_code == 0
    assert volar("context", "show").out == "default\n"


def test_mistakes_are_said(volar: Volar) -> None:
    assert volar("context", "add", "a", "/s").exit_code == 0
    assert volar("context", "add", "a", "/s").exit_code == 5
    assert volar("context", "add", "-f", "a", "/t").exit_code == 0
    assert volar("context", "add", "default", "/s").exit_code == 2
    assert volar("context", "add", "b", "ftp://x").exit_code == 2
    assert volar("context", "use", "nowhere").exit_code == 4
    assert volar("context", "rm", "nowhere").exit_code == 4
