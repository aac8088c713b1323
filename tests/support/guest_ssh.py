# SPDX-License-Identifier: Apache-2.0
"""The agent's SSH as volantd speaks it, and what the agent takes of its guest."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.guest_harness import Guest, GuestHarness, read_client_key, read_host_key
from volant.volantd.guest.connection import GuestConnection, open_connection
from volant.volantd.hypervisors.streams import connect_unix

RSS_LIMIT_KIB = 12 << 10
SETTLE_SECONDS = 8


@asynccontextmanager
async def connect(harness: GuestHarness, guest: Guest) -> AsyncIterator[GuestConnection]:
    read_client_key(harness.folder)
    read_host_key(harness.folder)
    async with open_connection(
        await connect_unix(guest.control_socket),
        (harness.folder / "client_key").read_text(),
        (harness.folder / "host_key.pub").read_text().strip(),
        timeout_seconds=20,
    ) as connection:
        yield connection


async def count_descriptors(connection: GuestConnection) -> int:
    return int((await connection.run(["sh", "-c", "ls /proc/1/fd | wc -l"])).stdout)


async def read_rss_kib(connection: GuestConnection) -> int:
    status = (await connection.run(["cat", "/proc/1/status"])).stdout.decode()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])
