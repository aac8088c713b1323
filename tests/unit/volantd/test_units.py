# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from volant.volantd.units import DAEMON_UNIT, SHUTDOWN_SECONDS, SHUTDOWN_UNIT, UNIT_SECONDS, make_units
from volant.volantd.vms.stopping import AGENT_WAIT_SECONDS, POWER_OFF_SECONDS


def parse(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read_string(text)
    return parser


def test_the_daemon_may_be_restarted_under_its_vms() -> None:
    service = parse(make_units("/opt/volant/bin/volantd", system=True)[DAEMON_UNIT])["Service"]
    assert service["ExecStart"] == "/opt/volant/bin/volantd serve --listen 127.0.0.1:7777"
    assert service["KillMode"] == "process"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["OOMPolicy"] == "continue"


def test_vms_are_stopped_before_the_daemon_and_within_the_unit_s_time() -> None:
    unit = parse(make_units("/opt/volant/bin/volantd", system=True)[SHUTDOWN_UNIT])
    # systemd stops in the reverse order of starting.
    assert DAEMON_UNIT in unit["Unit"]["After"].split()
    assert unit["Service"]["ExecStop"] == f"/opt/volant/bin/volantd shutdown --timeout {SHUTDOWN_SECONDS}"
    assert int(unit["Service"]["TimeoutStopSec"]) == UNIT_SECONDS
    assert SHUTDOWN_SECONDS + AGENT_WAIT_SECONDS + POWER_OFF_SECONDS < UNIT_SECONDS


def test_a_user_s_units_ask_for_nothing_that_only_the_system_has() -> None:
    for text in make_units("/home/ann/.local/bin/volantd", system=False).values():
        assert parse(text)["Install"]["WantedBy"] == "default.target"
        assert "network-online" not in text and "StateDirectory" not in text and "--listen" not in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("system", [True, False])
def test_systemd_finds_no_fault_with_them(system: bool, tmp_path: Path) -> None:
    for name, text in make_units("/bin/true", system=system).items():
        (tmp_path / name).write_text(text)
    names = [str(tmp_path / DAEMON_UNIT), str(tmp_path / SHUTDOWN_UNIT)]
    manager = "--system" if system else "--user"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", manager, *names],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "volant" in line]
    assert (done.returncode, told) == (0, []), done.stderr
