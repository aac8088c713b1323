# SPDX-License-Identifier: Apache-2.0
"""A folder that is all of PATH for the builders, and a log of what they were asked."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def bin_folder(tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()

    def find(name: str) -> str | None:
        return str(folder / name) if (folder / name).exists() else None

    for module in ("choose", "trial", "machine"):
        monkeypatch.setattr(f"volant.fledge.builders.{module}.find_tool", find)
    monkeypatch.setattr("volant.fledge.builders.trial.find_agent", lambda architecture: agent)
    monkeypatch.setattr("volant.fledge.builders.machine.is_rootless", lambda: False)
    return folder
