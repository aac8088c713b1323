# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import ToolFailed, ToolMissing
from volant.plugin_sources import workplace


def test_a_build_that_fails_has_said_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "fledge"
    tool.write_text('#!/bin/sh\nexit "$2"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(workplace, "find_fledge", lambda: str(tool))
    with pytest.raises(ToolFailed, match="exit code 3"):
        workplace.Terminal().run_fledge(["3"])
    with pytest.raises(KeyboardInterrupt):
        workplace.Terminal().run_fledge(["130"])


def test_an_installation_without_fledge_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", [str(tmp_path / "volar")])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="fledge is not installed"):
        workplace.find_fledge()
