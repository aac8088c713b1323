# SPDX-License-Identifier: Apache-2.0
"""One fork server for all programs, replaced where it was killed; none of our descriptors is in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.forked_program import wait, write_program
from volant import forked_programs
from volant.errors import ToolFailed
from volant.forked_programs import ForkServer, start_forked


@pytest.fixture(autouse=True)
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(forked_programs, "_server", None)
    yield
    if forked_programs._server is not None:
        forked_programs._server.close()


def find_server() -> ForkServer:
    assert forked_programs._server is not None
    return forked_programs._server


def test_what_cannot_be_loaded_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="cannot start absent"):
        start_forked(str(tmp_path / "absent.py"), [], tmp_path / "log")


def test_one_that_was_killed_is_replaced_and_what_runs_goes_on(tmp_path: Path) -> None:
    program, log = write_program(tmp_path), tmp_path / "log"
    pid = start_forked(program, ["stay"], log)
    killed = find_server()
    os.kill(killed.pid, signal.SIGKILL)
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert wait(start_forked(program, ["become", "exit 3"], log)) == 3
    assert find_server().pid != killed.pid
    os.kill(pid, signal.SIGTERM)
    assert wait(pid) == -signal.SIGTERM


def test_a_pipe_of_our_caller_ends_though_the_server_runs(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    assert wait(start_forked(write_program(tmp_path), ["become", "exit 0"], tmp_path / "log")) == 0
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
