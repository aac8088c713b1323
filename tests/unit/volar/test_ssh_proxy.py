# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from volant.volar import ssh, ssh_proxy
from volant.volar.client import Client


@pytest.fixture(autouse=True)
def interrupt() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_host_key_is_told_as_known_hosts_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(client: Client, vm: str) -> dict[str, str]:
        asked.append((client.address, vm))
        return {"host_key": "ssh-ed25519 AAAA"}

    monkeypatch.setattr(ssh, "authorize", authorize)
    monkeypatch.setattr("sys.argv", ["ssh_proxy", "--host-key", "/run/v.sock", "web"])
    assert ssh_proxy.main() == 0
    assert capsys.readouterr().out == "web ssh-ed25519 AAAA\n"
    assert asked == [("/run/v.sock", "web")]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, (
        "Ctrl-C in a session ends it without a traceback"
    )


def test_a_daemon_that_is_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ssh_proxy", "/nowhere/v.sock", "web"])
    assert ssh_proxy.main() == 11
    assert capsys.readouterr().err.startswith("error: cannot reach volantd at /nowhere")
