# SPDX-License-Identifier: Apache-2.0
"""Forks of the server are its parent's children, with a session, an output and descriptors of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.forked_program import wait, write_program
from volant.forked_programs import ForkServer


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


def test_it_is_our_child_and_has_what_it_was_given(server: ForkServer, tmp_path: Path) -> None:
    program, log = write_program(tmp_path), tmp_path / "log"
    reader, writer = os.pipe()
    os.write(writer, b"passed")
    os.close(writer)
    assert wait(server.start(program, ["tell", "7"], log, {7: reader})) == 0
    os.close(reader)
    # 3 is the listing's own.
    assert log.read_text() == f"True {os.getpid()} [0, 1, 2, 3, 7]\npassed True\nof a thread\n"


def test_how_it_ended_is_told_to_its_parent(server: ForkServer, tmp_path: Path) -> None:
    program, log = write_program(tmp_path), tmp_path / "log"
    assert wait(server.start(program, ["fail"], log, {})) == 125
    assert "ValueError('no')" in log.read_text()
    assert wait(server.start(program, ["become", "exit 7"], log, {})) == 7
    assert wait(server.start(program, ["become", "kill -9 $$"], log, {})) == -signal.SIGKILL


def test_descriptors_change_their_numbers_without_covering_each_other(
    server: ForkServer, tmp_path: Path
) -> None:
    program, log = write_program(tmp_path), tmp_path / "log"
    pipes = [os.pipe() for _ in range(3)]
    for number, (_, writer) in enumerate(pipes):
        os.write(writer, str(number).encode())
        os.close(writer)
    targets = {5: pipes[0][0], 3: pipes[1][0], 4: pipes[2][0]}
    command = "cat <&3; cat <&4; cat <&5"
    assert wait(server.start(program, ["become", command], log, targets)) == 0
    for reader, _ in pipes:
        os.close(reader)
    assert log.read_text() == "120"


def test_it_ends_with_us_and_what_runs_goes_on(tmp_path: Path) -> None:
    server = ForkServer()
    pid = server.start(write_program(tmp_path), ["stay"], tmp_path / "log", {})
    server.close()  # waits for its end
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
