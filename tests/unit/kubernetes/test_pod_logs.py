# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest

from support.fake_cluster import FakeDaemon, make_vm
from volant.kubernetes.pod_logs import LogOptions, read_lines, read_options

BEFORE, AFTER = "2026-11-27T09:00:00Z", "2026-11-27T11:00:00Z"


def make_daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.lines = [
        {"time": BEFORE, "stream": "stdout", "line": "old"}, {"time": AFTER, "stream": "agent", "line": "kestrel"},
        {"time": AFTER, "stream": "stdout", "line": "one"}, {"time": AFTER, "stream": "stderr", "line": "two"},
    ]  # fmt: skip
    return daemon


async def read(options: LogOptions) -> bytes:
    return b"".join([line async for line in read_lines(cast("Any", make_daemon()), make_vm(), options)])


@pytest.mark.asyncio
async def test_the_lines_of_this_start_or_of_those_before() -> None:
    assert await read(LogOptions()) == b"one\ntwo\n"
    assert await read(LogOptions(previous=True)) == b"old\n"
    assert await read(LogOptions(previous=True, tail=0)) == b""
    assert await read(LogOptions(timestamps=True)) == f"{AFTER} one\n{AFTER} two\n".encode()
    assert await read(LogOptions(most_bytes=5)) == b"one\nt"


def test_what_the_api_server_asks_for() -> None:
    options = read_options({"follow": "true", "tailLines": "5", "limitBytes": "10", "sinceTime": BEFORE})
    assert options == LogOptions(follow=True, tail=5, since=BEFORE, most_bytes=10)
    assert read_options({"sinceSeconds": "60"}).since is not None
    with pytest.raises(ValueError, match="invalid"):
        read_options({"tailLines": "many"})
