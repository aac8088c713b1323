# SPDX-License-Identifier: Apache-2.0
"""A command in a guest, talked with. The guest is a process: it answers what it read, a warning and exit code 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.in_process_daemon import start_in_process
from volant.client import Client
from volant.client.running_command import RunningCommand
from volant.errors import InvalidInput, NotFound, Unreachable


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with start_in_process() as daemon:
        daemon.install("web")
        daemon.client.create_vm({"name": "one", "plugin": "web"})
        daemon.client.wait("one")
        yield daemon.client


def read_all(command: RunningCommand) -> dict[str, bytes]:
    written = {"stdout": b"", "stderr": b""}
    for source, content in command:
        written[source] += content
    return written


def test_what_it_is_given_and_what_it_writes(client: Client) -> None:
    with client.open_exec("one", ["cat", "a b"], env={"NAME": "a=b&c"}) as command:
        assert command.exit_code is None
        command.write(b"one ")
        command.write(b"two")
        command.close_input()
        assert read_all(command) == {"stdout": b"cat 'a b'|one two", "stderr": b"warned"}
        assert command.exit_code == 3
        command.write(b"late")
        command.close_input()


def test_a_terminal_has_a_size_that_changes(client: Client) -> None:
    with client.open_exec("one", ["terminal"], terminal=(132, 43)) as command:
        first = next(iter(command))
        assert first.content == b"xterm-256color (132, 43)"
        command.resize(80, 25)
        assert read_all(command)["stdout"] == b" 80 25"
        assert command.exit_code == 0


def test_more_than_anybody_holds_goes_through_and_may_be_left(client: Client) -> None:
    with client.open_exec("one", ["flood"]) as command:
        received = 0
        for _, content in command:
            received += len(content)
            if received > 8_000_000:
                break
    assert client.exec("one", ["cat"])["exit_code"] == 3, "the guest still answers"


def test_what_cannot_be_opened_says_why(client: Client) -> None:
    with pytest.raises(NotFound, match="nobody"), client.open_exec("nobody", ["true"]):
        pass
    with pytest.raises(InvalidInput), client.open_exec("one", ["true"], env={"": "x"}):
        pass


def test_a_stream_that_breaks_is_no_end_of_the_command() -> None:
    stream: Any = iter([b"half"])
    command = RunningCommand(stream, "make in one")
    with pytest.raises(Unreachable, match="cannot follow make in one"):
        command.wait()
