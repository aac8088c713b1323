# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from support.in_process_daemon import InProcessDaemon
from volant.client.streams import open_stream, pump
from volant.errors import NotFound


class Stream:
    """As much of a WebSocket as is pumped."""

    def __init__(self, *messages: str | bytes) -> None:
        self._messages = messages
        self.sent: list[str | bytes] = []

    def __iter__(self) -> Iterator[str | bytes]:
        return iter(self._messages)

    def send(self, message: str | bytes) -> None:
        self.sent.append(message)


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    ends = (*os.pipe(), *os.pipe())
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def test_bytes_go_both_ways(pipes: tuple[int, int, int, int]) -> None:
    from_us, to_stream, received, write = pipes
    os.write(to_stream, b"typed")
    os.close(to_stream)
    stream: Any = Stream(b"one ", "text is no byte", b"two")
    pump(stream, from_us, write)
    assert os.read(received, 100) == b"one two"


def test_a_reader_that_was_killed_ends_the_stream_without_a_traceback(
    pipes: tuple[int, int, int, int],
) -> None:
    from_us, _, received, write = pipes
    os.close(received)
    stream: Any = Stream(b"nobody reads this")
    pump(stream, from_us, write)


def test_a_refused_stream_is_the_daemons_own_error(daemon: InProcessDaemon) -> None:
    with (
        pytest.raises(NotFound, match="cannot find VM nobody"),
        open_stream(daemon.client, "/vms/nobody/console"),
    ):
        pass
