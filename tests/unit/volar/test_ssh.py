# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.volar.ssh import authorize, find_client_key, open_session, run_client


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))


def test_this_users_key_is_made_once_and_is_its_own() -> None:
    key = find_client_key()
    content = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert find_client_key().read_bytes() == content
    assert key.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")


def test_a_session_pins_the_guests_key(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("guest")
    assert volar("create", "guest", "-p", "guest").exit_code == 0
    assert authorize(daemon.client, "guest")["host_key"] == "ssh-ed25519 AAAA"
    with open_session(daemon.client, "guest") as options:
        named = dict(option.split("=", 1) for option in options if "=" in option)
        assert Path(named["UserKnownHostsFile"]).read_text() == "guest ssh-ed25519 AAAA\n"
        assert named["StrictHostKeyChecking"] == "yes"
        assert shlex.split(named["ProxyCommand"])[-2:] == [daemon.client.address, "guest"]
    assert not Path(named["UserKnownHostsFile"]).exists()
    config = volar("ssh-config", "guest").out
    assert config.startswith("Host guest\n")
    assert "--host-key" in config
    assert f"IdentityFile {find_client_key()}" in config
    assert volar("rm", "-f", "guest").exit_code == 0


def test_the_token_is_in_the_environment_and_not_on_the_command_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run_client(["sh", "-c", "echo $VOLANT_TOKEN; exit 7"], "t0ken") == 7
    assert capfd.readouterr().out == "t0ken\n"
    assert run_client(["sh", "-c", "kill -9 $$"], None) == 137
