# SPDX-License-Identifier: Apache-2.0
"""What the tests of fledge's front half share: a stand-in for the agent, a cache and a folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.remembering_monitor import RememberingMonitor


@pytest.fixture
def monitor() -> RememberingMonitor:
    return RememberingMonitor()


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small agent for every architecture: a script that finds no config wrong."""
    path = tmp_path_factory.mktemp("agent") / "kestrel"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    for module in ("guest", "agent_server", "pipeline"):
        monkeypatch.setattr(f"volant.fledge.{module}.find_agent", lambda architecture: path)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a cache that nobody else has and no setting of the developer's own."""
    for name in (
        "SOURCE_DATE_EPOCH",
        "BUILDAH_ISOLATION",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
