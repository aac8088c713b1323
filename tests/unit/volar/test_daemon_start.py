# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.volar import daemon_start


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down what it is asked, and for which the unit is in the state of a file."""
    script = tmp_path / "bin" / "systemctl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncat {tmp_path}/state\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    for name in ("VOLANT_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(daemon_start, "SYSTEMD", tmp_path)
    monkeypatch.setattr(daemon_start, "is_answering", lambda path: (tmp_path / "calls").exists())
    return tmp_path / "calls"


def test_a_daemon_that_is_a_service_is_started_as_one(calls: Path) -> None:
    calls.with_name("state").write_text("enabled\n")
    assert daemon_start.start_service()
    asked = [line.split()[-2:] for line in calls.read_text().splitlines()]
    assert asked == [["is-enabled", "volantd.service"], ["start", "volantd.service"]]


def test_without_a_service_volar_starts_it_itself(calls: Path) -> None:
    calls.with_name("state").write_text("disabled\n")
    assert not daemon_start.start_service()
    assert "start" not in calls.read_text().split()


def test_a_folder_of_one_s_own_has_no_service(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLANT_HOME", "/tmp/other")
    assert not daemon_start.start_service()
    assert not calls.exists()
