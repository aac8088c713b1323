# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from volant.contract.paths import find_socket
from volant.errors import ToolMissing, Unreachable
from volant.volar import daemon_start
from volant.volar.daemon_start import find_daemon_program, is_answering, start_daemon


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # A short path: a UNIX socket's name holds at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="volant-", dir="/tmp") as name:
        monkeypatch.setenv("VOLANT_HOME", name)
        yield Path(name)


def write_program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / "volantd"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr(daemon_start, "find_daemon_program", lambda: [str(program)])


def test_a_daemon_that_does_not_come_up_shows_its_last_lines(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(home, monkeypatch, "echo the database is locked >&2; exit 1")
    with pytest.raises(Unreachable, match="did not come up") as raised:
        start_daemon()
    assert raised.value.details == ("the database is locked",)
    assert "volantd.log" in raised.value.resolution


def test_an_installation_without_the_daemon_says_how_to_get_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(home, monkeypatch, f"exit {ToolMissing.exit_code}")
    with pytest.raises(ToolMissing, match="not installed"):
        start_daemon()
    monkeypatch.undo()
    monkeypatch.setattr("sys.argv", [str(home / "empty" / "volar")])
    monkeypatch.setenv("PATH", str(home / "empty"))
    with pytest.raises(ToolMissing):
        find_daemon_program()


def test_one_that_answers_is_not_started_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(home, monkeypatch, "exit 1")
    find_socket().parent.mkdir(mode=0o700)
    assert not is_answering(find_socket())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(find_socket()))
        listener.listen()
        assert is_answering(find_socket())
        start_daemon()
