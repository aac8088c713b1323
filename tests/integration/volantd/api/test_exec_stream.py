# SPDX-License-Identifier: Apache-2.0
"""A command over a WebSocket: its streams, terminal and end, and nothing that piles up. The guest is a process."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.sync.client import ClientConnection

from support.daemon_process import Daemon, create, start_daemon, wait_until
from volant.client.streams import open_stream
from volant.errors import InvalidInput, NotFound
from volant.volar.client import Client


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        create(daemon, network="vsock")
        yield daemon


@contextlib.contextmanager
def run(daemon: Daemon, *command: str, **query: object) -> Iterator[ClientConnection]:
    pairs = [*(("command", word) for word in command), *query.items()]
    with open_stream(Client(str(daemon.socket)), f"/vms/vm/exec/stream?{urlencode(pairs)}") as stream:
        yield stream


def read_all(stream: ClientConnection) -> tuple[bytes, str, int]:
    """Standard output, standard error and exit code, in whatever order they come."""
    out = b""
    facts: dict[str, Any] = {}
    for message in stream:
        if isinstance(message, bytes):
            out += message
        else:
            facts |= json.loads(message)
    return out, facts["stderr"], facts["exit_code"]


def test_input_output_and_exit_code(daemon: Daemon) -> None:
    with run(daemon, "cat", "a b") as stream:
        for _ in range(30):
            stream.send(b"y" * 100_000)
        stream.send("")
        out, err, code = read_all(stream)
    assert (out[:10], len(out), err, code) == (b"cat 'a b'|", 3_000_010, "warned", 3)


def test_a_terminal_has_a_size_that_changes(daemon: Daemon) -> None:
    with run(daemon, "terminal", terminal="true", columns=132, rows=43) as stream:
        assert stream.recv(30) == b"xterm-256color (132, 43)"
        stream.send('{"columns": 0}')  # no size: nothing happens
        stream.send('{"columns": 80, "rows": 25}')
        assert stream.recv(30) == b" 80 25"
        assert json.loads(stream.recv(30)) == {"exit_code": 0}


def test_output_that_nobody_reads_waits_in_the_guest(daemon: Daemon) -> None:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status")

    def read_rss_mib() -> int:
        return int(status.read_text().partition("VmRSS:")[2].split()[0]) >> 10

    before = read_rss_mib()
    with run(daemon, "flood") as stream:
        received = 0
        while received < 8 << 20:
            received += len(stream.recv(30))
        time.sleep(1)  # in which a flood that is not held back would bring hundreds of MiB
        assert read_rss_mib() - before < 32
        assert daemon.call("GET", "/vms/vm")[0] == 200
    wait_until(
        lambda: "volant_api_requests_open 1.0" in daemon.call("GET", "/metrics", prefix="")[1].decode()
    )


def test_what_cannot_be_run_is_told_before_anything_is_open(daemon: Daemon) -> None:
    with pytest.raises(InvalidInput), run(daemon):
        pass
    with pytest.raises(InvalidInput), run(daemon, "sh", columns=0):
        pass
    with pytest.raises(NotFound), open_stream(Client(str(daemon.socket)), "/vms/none/exec/stream?command=sh"):
        pass
