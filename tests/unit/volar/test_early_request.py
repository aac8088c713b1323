# SPDX-License-Identifier: Apache-2.0
"""What is asked before the command line is there is what it asks itself, and is asked once."""

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

from volant.volar import early_request
from volant.volar.cli import run
from volant.volar.fast_lane import CHOICES_OF_A_DAEMON

VM = {
    "name": "web-2", "status": "running", "health": "starting", "plugin": {"name": "nginx", "version": "1.0.0"},
    "ip": "127.127.0.3", "url": "http://127.127.0.3", "network": "user", "agent": {"connected": True},
    "ports": [{"host_ip": "127.127.0.3", "host_port": 80, "guest_port": 80, "protocol": "tcp"}],
}  # fmt: skip
ACTS = [(["vms", "fork", "web", "web-2"], [VM], "web-2 is running at http://127.127.0.3"),
        (["vms", "resume", "web"], VM, "resumed web")]  # fmt: skip


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))
    monkeypatch.setenv("VOLANT_NO_AUTOSTART", "1")
    for name in CHOICES_OF_A_DAEMON:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path


@contextmanager
def serve(home: Path, *replies: bytes) -> Iterator[list[bytes]]:
    """A daemon that gives these replies, one a connection; what it was asked."""
    asked: list[bytes] = []
    path = home / "run" / "volantd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)

        def answer() -> None:
            for reply in replies:
                with listener.accept()[0] as connection:
                    request = b""
                    while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                        request += connection.recv(1 << 16)
                    asked.append(request)
                    if reply:  # else who has asked may be gone
                        connection.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield asked
        thread.join(timeout=30)
        assert not thread.is_alive(), "it was not asked as often as that"
    path.unlink()


def make_reply(content: object, status: str = "201 Created") -> bytes:
    body = json.dumps(content).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body


def read_request(request: bytes) -> tuple[bytes, object, dict[bytes, bytes]]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, json.loads(body), dict(line.lower().split(b": ", 1) for line in lines)


@pytest.mark.parametrize(("words", "content", "printed"), ACTS)
def test_the_command_line_has_the_reply_of_what_it_would_have_asked(
    words: list[str], content: object, printed: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(home, make_reply(content)) as asked_by_command_line:
        assert run(words) == 0
    with serve(home, make_reply(content)) as asked_early:
        early_request.begin(words)
        assert run(words) == 0
    assert capsys.readouterr().out.splitlines() == [printed] * 2
    (usual, body, usual_headers), (early, same, early_headers) = (
        read_request(asked[0]) for asked in (asked_by_command_line, asked_early)
    )
    assert (usual, body) == (early, same)
    assert early_headers[b"content-type"] == usual_headers[b"content-type"]
    assert early_headers[b"host"] == usual_headers[b"host"]


def test_a_daemon_that_goes_away_is_asked_again_for_the_same(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, content, printed = ACTS[0]
    with serve(home, b"", make_reply(content)) as asked:
        early_request.begin(words)
        assert run(words) == 0
    keys = {read_request(request)[2][b"idempotency-key"] for request in asked}
    assert (len(asked), len(keys), capsys.readouterr().out) == (2, 1, f"{printed}\n")


def test_an_error_is_the_daemons(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"error": "cannot fork VM web: it is stopped", "code": "wrong_state", "details": []}
    with serve(home, make_reply(refusal, "409 Conflict")):
        early_request.begin(["vms", "fork", "web", "web-2"])
        assert run(["vms", "fork", "web", "web-2"]) != 0
    assert "cannot fork VM web: it is stopped" in capsys.readouterr().err


def test_who_is_asked_for_something_else_asks_that(home: Path) -> None:
    with serve(home, b"", make_reply([VM])) as asked:
        early_request.begin(["vms", "fork", "web", "other"])
        assert run(["vms", "fork", "web", "web-2"]) == 0
    assert read_request(asked[1])[1] == {"names": ["web-2"]}


@pytest.mark.parametrize(
    "words",
    [
        ["vms", "fork", "web", "web"],
        ["vms", "fork", "web", "-h"],
        ["vms", "fork", "web", "vm/x"],
        ["vms", "fork", "web", "x", "--count", "2"],
        ["vms", "resume", "web", "db"],
        ["vms", "resume", "-h"],
        ["vms", "resume", ""],
        ["vms", "suspend", "web"],
        ["fork", "web", "x"],
    ],
)
def test_whatever_is_not_plain_is_left_to_the_command_line(words: list[str]) -> None:
    assert early_request.find_act(words) is None


def test_nobody_but_this_users_own_daemon_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early_request.begin(["vms", "resume", "web"])
    assert early_request.take() is None, "there is none yet: the command line starts it"
    monkeypatch.setenv("VOLANT_API_BASE", "/elsewhere.sock")
    early_request.begin(["vms", "resume", "web"])
    assert early_request.take() is None


def test_it_is_sent_before_click_is_loaded(home: Path) -> None:
    program = (
        "import sys; from volant.volar.early_request import begin; begin(sys.argv[1:]);"
        "print({'click', 'http.client', 'pathlib', 'typing'} & set(sys.modules))"
    )
    with serve(home, b""):
        done = subprocess.run(
            [sys.executable, "-c", program, "vms", "resume", "web"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert done.stdout == "set()\n"
