# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from volant.errors import WrongState
from volant.volar import run_follow
from volant.volar.client import Client
from volant.volar.run_follow import find_end, format_line, stop


def make_vm(status: str, **changes: Any) -> Any:
    return {
        "name": "web",
        "status": status,
        "status_reason": "",
        "exit_code": None,
        "last_console_lines": [],
        **changes,
    }


def test_an_end_is_the_commands_or_says_why_there_is_none() -> None:
    assert find_end(make_vm("starting")) is None
    assert find_end(make_vm("running", exit_code=3)) is None, "it has yet to power off"
    assert find_end(make_vm("stopped", exit_code=3)) == (3, None)
    assert find_end(make_vm("stopped")) == (0, None)
    end = find_end(make_vm("failed", status_reason="no root disk", last_console_lines=["panic"]))
    assert end is not None
    assert end.exit_code == 10
    assert end.problem is not None
    assert "no root disk\n  panic" in str(end.problem)


@pytest.mark.parametrize(("exit_code", "expected"), [(0, 0), (7, 7), (143, 143), (137, 143), (None, 143)])
def test_one_that_was_stopped_ends_as_its_workload_did(exit_code: int | None, expected: int) -> None:
    vm = make_vm("stopped", exit_code=exit_code)
    assert find_end(vm, was_stopped=True) == (expected, None)


def test_lines_look_as_under_docker_unless_there_are_several_processes() -> None:
    line: Any = {"process": "workload", "line": "hello"}
    assert format_line(line) == "hello"
    line["process"] = "db"
    assert format_line(line) == "[db] hello"


class StoppingClient(Client):
    def __init__(self, *answers: BaseException | None) -> None:
        super().__init__("stopping")
        self.answers = list(answers)
        self.forced: list[bool] = []

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        self.forced.append(body["force"])
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer


def test_a_second_interrupt_switches_it_off(capsys: pytest.CaptureFixture[str]) -> None:
    client = StoppingClient(KeyboardInterrupt(), None)
    stop(client, "web")
    assert client.forced == [False, True]
    assert "switching it off" in capsys.readouterr().err
    stop(StoppingClient(WrongState("it is stopped")), "web")


def test_hangup_is_an_interrupt_unless_it_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt), run_follow.interrupted_by_hangup():
        os.kill(os.getpid(), signal.SIGHUP)
        signal.pause()
    assert signal.getsignal(signal.SIGHUP) is before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with run_follow.interrupted_by_hangup():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
