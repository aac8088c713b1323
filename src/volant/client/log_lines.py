# SPDX-License-Identifier: Apache-2.0
"""The lines of a VM's log, followed beyond the end of one connection: a daemon that is restarted costs none of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from volant.client.client import Client, quoted
from volant.errors import NotFound, Unreachable

if TYPE_CHECKING:
    from volant.contract.api_types import LogLine

# How long a daemon may be away before following it is given up.
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.3
WITH_PROCESS = ("starting", "running", "paused", "stopping")


def read_lines(
    client: Client,
    name: str,
    *,
    process: str | None = None,
    since: str | None = None,
    tail: int | None = None,
) -> Iterator[LogLine]:
    """The lines there are."""
    query = {"process": process, "since": since, "tail": tail}
    with client.open("GET", f"/vms/{quoted(name)}/logs", query=query, timeout_seconds=None) as reply:
        for raw in reply:
            yield json.loads(raw)


def follow_lines(
    client: Client,
    name: str,
    *,
    process: str | None = None,
    since: str | None = None,
    tail: int | None = None,
) -> Iterator[LogLine]:
    """The lines there are and those that come, until the VM ends. Raises Unreachable where the daemon stays away."""
    query: dict[str, Any] = {"process": process, "since": since, "tail": tail, "follow": True}
    # What is asked for again after a cut: from the last line's time on, without those of that time that were seen.
    last_time, seen = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), set[str]()
    is_again = False
    while True:
        with (
            suppress(Unreachable, ValueError),
            client.open("GET", f"/vms/{quoted(name)}/logs", query=query, timeout_seconds=None) as reply,
        ):
            for raw in reply:
                line: LogLine = json.loads(raw)
                key = raw.decode("utf-8", "replace")
                if is_again and (line["time"] < last_time or key in seen):
                    continue
                if line["time"] != last_time:
                    last_time, seen = line["time"], set()
                seen.add(key)
                yield line
        if not wait_for_return(client, name):
            return
        is_again = True
        query = {"process": process, "since": last_time, "follow": True}


def wait_for_return(client: Client, name: str, *, patience_seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether the VM still runs, asked of the daemon until it answers: then the stream was cut, and did not end."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            is_there = client.get_vm(name)["status"] in WITH_PROCESS
        except NotFound:
            return False
        except Unreachable:
            if time.monotonic() > deadline:
                raise
        else:
            if is_there:
                time.sleep(RETRY_SECONDS)
            return is_there
        time.sleep(RETRY_SECONDS)
