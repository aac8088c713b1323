# SPDX-License-Identifier: Apache-2.0
"""Chaos in a real guest: processes are killed, logs flooded and the control stream broken, again and again.

Fifteen seconds in every run; KESTREL_CHAOS=3m (the Go suite's variable) makes it minutes. Afterwards every state is
right and nothing is left behind: no process, no zombie, no descriptor, no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import time
from pathlib import Path

import pytest

from support.busybox_guest import make_busybox_root
from support.guest_harness import Guest, GuestHarness, make_disk, make_harness, write_file
from support.guest_ssh import RSS_LIMIT_KIB, SETTLE_SECONDS, connect, count_descriptors, read_rss_kib
from volant.contract.agent import LogQuery
from volant.errors import Conflict, VolantError
from volant.volantd.guest.connection import GuestConnection
from volant.volantd.guest.control import ControlClient, open_control

CONFIG = """
exec:
  - {name: idle, command: sleep, args: ["100000"], restart: always, backoff: 10ms, stop_timeout: 500ms}
  - name: flood
    command: sh
    args: [-c, "while :; do echo some text that is written again and again; done"]
    restart: always
    backoff: 10ms
    stop_timeout: 500ms
  - name: orphans
    command: sh
    args: [-c, "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; exec sleep 100000"]
    restart: always
    backoff: 10ms
    stop_timeout: 500ms
  - {name: brief, command: sh, args: [-c, "sleep 0.1; exit 3"], restart: always, backoff: 100ms}
"""
STEADY = ("idle", "flood", "orphans")
SIGNALS = ("KILL", "TERM", "SEGV", "STOP")


def read_duration_seconds() -> float:
    text = os.environ.get("KESTREL_CHAOS", "15s")
    found = re.fullmatch(r"(\d+)([sm])", text)
    assert found is not None, f"KESTREL_CHAOS={text}: a number of seconds (90s) or minutes (3m)"
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]


async def kill_something(connection: GuestConnection, control: ControlClient) -> None:
    process = random.choice((await control.get_state()).processes)
    if process.pid is not None:
        # It may have ended by itself meanwhile.
        await connection.run(["kill", f"-{random.choice(SIGNALS)}", str(process.pid)])


async def command_something(connection: GuestConnection, control: ControlClient) -> None:
    method = random.choice(("process.restart", "process.stop", "process.start"))
    with contextlib.suppress(Conflict):  # it runs already, or has been stopped
        await control.call(method, {"name": random.choice(STEADY)})


async def flood_the_stream(connection: GuestConnection, control: ControlClient) -> None:
    process = await connection.ssh.create_process("cat /dev/zero", encoding=None)
    assert await process.stdout.read(1000)
    await asyncio.sleep(random.random() / 5)


async def follow_logs(connection: GuestConnection, control: ControlClient) -> None:
    async with asyncio.timeout(5):
        async for _ in control.read_logs(LogQuery(tail=100, follow=True)):
            break


async def cause_chaos(harness: GuestHarness, guest: Guest, seconds: float) -> int:
    """Every act has a connection of its own, which is cut without a word. Returns how many there were."""
    acts = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        async with connect(harness, guest) as connection, open_control(connection) as control:
            for _ in range(random.randrange(4)):
                await random.choice((kill_something, command_something))(connection, control)
            await random.choice((kill_something, flood_the_stream, follow_logs))(connection, control)
        acts += 1
    return acts


async def bring_back(control: ControlClient) -> None:
    """Start what was stopped, and wait until all that can run, runs."""
    for name in STEADY:
        await control.call("process.restart", {"name": name})
    async with asyncio.timeout(60):
        async for state in control.follow_state():
            running = {process.name for process in state.processes if process.state == "running"}
            if running.issuperset(STEADY):
                assert state.phase in ("starting", "running")  # starting: "brief" never stays up for long
                return
    raise AssertionError("the state ended")


async def list_processes(connection: GuestConnection) -> list[str]:
    """What runs in the guest beside the kernel's threads, the agent and this very look."""
    outcome = await connection.run(
        ["sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done"]
    )
    lines = [line.strip() for line in outcome.stdout.decode().splitlines()]
    return sorted(line for line in lines if line and "/proc/" not in line and not line.startswith("/init"))


async def test_chaos_leaves_nothing_behind(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    write_file(root, "etc/kestrel/config.yaml", CONFIG)
    disk = make_disk(root, tmp_path / "disk.img")
    with harness.boot(disk) as guest:
        guest.wait_for("boot: main to exec")
        async with connect(harness, guest) as connection, open_control(connection) as control:
            await bring_back(control)
            descriptors = await count_descriptors(connection)
        acts = await cause_chaos(harness, guest, read_duration_seconds())
        print(f"{acts} connections were cut")
        assert acts > 10
        async with connect(harness, guest) as connection, open_control(connection) as control:
            await bring_back(control)
            assert await count_descriptors(connection) <= descriptors
            await control.call("process.stop", {"name": "flood"})
            await control.call("process.stop", {"name": "brief"})
            left: list[str] = []
            for _ in range(100):
                if (left := await list_processes(connection)) == ["sleep 100000"] * 2:
                    break
                await asyncio.sleep(0.2)
            assert left == ["sleep 100000"] * 2
            outcome = await connection.run(["sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status"])
            assert outcome.stdout == b"", "zombies are left"
            await asyncio.sleep(SETTLE_SECONDS)
            assert await read_rss_kib(connection) <= RSS_LIMIT_KIB
            await control.stop("poweroff", 5)
            with pytest.raises(VolantError):
                while True:
                    await control.get_state()
                    await asyncio.sleep(0.1)
        guest.wait_for_end()


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("chaos"))
