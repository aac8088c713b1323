# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unit.volar.conftest import Volar
from volant.volar import fast_lane
from volant.volar.cli import volar as command_line

VM = {
    "name": "web\x1b", "status": "running", "health": "healthy", "plugin": {"name": "nginx", "version": "1.0.0"},
    "ip": "127.127.0.2", "url": None, "created_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
BODY = json.dumps([VM]).encode()
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED = HEAD + b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))
    for name in fast_lane.CHOICES_OF_A_DAEMON:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path


@contextmanager
def answer(home: Path, reply: bytes) -> Iterator[None]:
    """A daemon that gives one reply."""
    path = home / "run" / "volantd.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(timeout=30)


@pytest.mark.parametrize("reply", [WHOLE, CHUNKED])
def test_the_table_is_that_of_the_command_line(
    reply: bytes, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answer(home, reply):
        ours = fast_lane.list_vms(["vms", "list"])
    with answer(home, WHOLE):
        command_line.main(["vms", "list"], standalone_mode=False)
    assert f"{ours}\n" == capsys.readouterr().out
    assert ours is not None and "web\\x1b  running  healthy  nginx:1.0.0  127.127.0.2  -" in ours


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n[]",
        WHOLE[:-1],
        CHUNKED[:-30],
        b"HTTP/1.1 200 OK\r\nNext-After: web\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{,",
        b"nonsense",
    ],
)
def test_what_is_not_the_whole_list_is_asked_again_at_leisure(reply: bytes, home: Path) -> None:
    with answer(home, reply):
        assert fast_lane.list_vms(["ps"]) is None


def test_only_the_plain_case_is_answered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise AssertionError("it asked")

    with monkeypatch.context() as patched:
        patched.setattr(fast_lane, "fetch_vms", fail)
        assert fast_lane.list_vms(["ps", "-q"]) is None
        patched.setenv("VOLANT_CONTEXT", "lab")
        assert fast_lane.list_vms(["ps"]) is None
        patched.delenv("VOLANT_CONTEXT")
        (home / "run").chmod(0o777)
        assert fast_lane.list_vms(["ps"]) is None, "anybody may answer there"
        (home / "run").chmod(0o700)
        (home / "contexts.json").touch()
        assert fast_lane.list_vms(["ps"]) is None
        (home / "contexts.json").unlink()
    assert fast_lane.list_vms(["ps"]) is None, "no daemon yet: the command line starts it"


@pytest.mark.parametrize("words", fast_lane.WORDS)
def test_its_words_are_those_of_the_list(words: list[str], volar: Volar) -> None:
    assert volar(*words).out.split()[:3] == ["NAME", "STATUS", "HEALTH"]


def test_neither_click_nor_http_is_loaded(home: Path) -> None:
    program = (
        "import sys; from volant.programs import volar; volar();"
        "print({'click', 'http.client', 'pathlib', 'typing'} & set(sys.modules))"
    )
    with answer(home, WHOLE):
        done = subprocess.run(
            [sys.executable, "-c", program, "ps"], capture_output=True, text=True, check=True, timeout=60
        )
    assert done.stdout.splitlines()[-1] == "set()"
    assert len(done.stdout.splitlines()) == 3
