# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from volant.volantd import setup
from volant.volantd.database import Database
from volant.volantd.settings import Settings


def test_the_unit_keeps_vms_and_the_socket_across_restarts() -> None:
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read_string(setup.make_unit("/opt/volant/bin/volantd"))
    service = parser["Service"]
    assert service["ExecStart"].startswith("/opt/volant/bin/volantd serve")
    assert service["KillMode"] == "process"
    assert service["RuntimeDirectoryPreserve"] == "yes"


def test_a_dry_run_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "UNIT", tmp_path / "volantd.service")
    setup.setup_all(Settings(state_dir=tmp_path / "state", runtime_dir=tmp_path / "run"), dry_run=True)
    output = capsys.readouterr().out
    for word in ("apt-get download", "ip link add volant0", "masquerade", "systemctl enable"):
        assert word in output
    assert list(tmp_path.iterdir()) == []


def test_the_kernel_fetched_before_the_first_start_opens_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(_architecture: str, kernels: Path, _monitor: object) -> None:
        kernels.mkdir(parents=True)

    monkeypatch.setattr(setup, "install_kernel", install)
    before = os.umask(0o022)
    try:
        settings = Settings(state_dir=tmp_path / "new" / "state", runtime_dir=tmp_path / "run")
        setup.setup_kernel(settings, dry_run=False)
        assert settings.state_dir.stat().st_mode & 0o777 == 0o700
        Database(settings.database).close()
        assert settings.database.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
