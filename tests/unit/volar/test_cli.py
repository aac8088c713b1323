# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from unit.volar.conftest import Volar
from volant.errors import GuestFailed
from volant.volar import cli
from volant.volar.client import Client


@pytest.mark.parametrize(
    ("raised", "exit_code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.UsageError("no such thing"), 2, "no such thing"),
        (
            GuestFailed("it \x1b]0;x\x07 failed", resolution="look"),
            10,
            "error: it \\x1b]0;x\\x07 failed\ntry: look",
        ),
        (OSError(30, "Read-only file system", "/some/file"), 1, "error: cannot use /some/file: Read-only"),
    ],
)
def test_every_end_is_an_exit_code_and_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    exit_code: int,
    said: str,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(cli.volar, "main", fail)
    assert cli.run([]) == exit_code
    assert said in capsys.readouterr().err


def test_help_names_each_command_once_and_the_short_forms(volar: Volar) -> None:
    done = volar("--help")
    assert done.exit_code == 0
    for name in cli.COMMANDS:
        assert f"\n  {name} " in done.out
    assert "Short forms: ps, create" in done.out
    assert volar().exit_code in (0, 2)


def test_a_daemon_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["ps"], Client("/nowhere/volantd.sock")) == 11
    assert "cannot reach volantd at /nowhere" in capsys.readouterr().err


@pytest.fixture
def refusing_daemon(tmp_path: Path) -> Iterator[Path]:
    """It answers before it has read an upload, and reads no more of it."""
    path = tmp_path / "volantd.sock"
    reply = b'{"code": "too_large", "error": "cannot take the plugin: too large"}'
    head = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(reply)

    def serve() -> None:
        with listener.accept()[0] as connection:
            connection.recv(1 << 10)
            connection.sendall(head + reply)
            connection.shutdown(socket.SHUT_RD)
            is_over.wait(60)

    is_over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        is_over.set()
        thread.join(60)


def test_an_upload_that_is_refused_early_says_why(refusing_daemon: Path, tmp_path: Path) -> None:
    archive = tmp_path / "web.tar.gz"
    archive.write_bytes(bytes(8 << 20))
    program = "from volant.programs import volar; volar()"
    command = [sys.executable, "-c", program, "-a", str(refusing_daemon), "plugins", "install", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "error: cannot take the plugin: too large\n")


def test_a_reader_that_went_away_hears_nothing_more() -> None:
    # Not a pipe: what another thread starts at this moment would have its other end for as long as it begins.
    reader, writer = socket.socketpair()
    reader.shutdown(socket.SHUT_RDWR)
    program = "from volant.programs import volar; volar()"
    command = [sys.executable, "-c", program, "vms", "--help"]
    with reader, writer:
        done = subprocess.run(command, stdout=writer.fileno(), stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == ""
