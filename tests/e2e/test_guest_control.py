# SPDX-License-Identifier: Apache-2.0
"""volantd's client of the guest's agent against a real guest: control session, exec, streams, secrets, stop."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from support.busybox_guest import make_busybox_root
from support.guest_harness import Guest, GuestHarness, make_disk, make_harness, read_client_key, read_host_key
from volant.contract.agent import LogQuery
from volant.errors import Unreachable
from volant.volantd.guest.connection import GuestConnection, open_connection
from volant.volantd.guest.control import open_control
from volant.volantd.hypervisors.base import MachineEnd, MachineState
from volant.volantd.hypervisors.host_process import identify
from volant.volantd.hypervisors.qemu import Qemu
from volant.volantd.hypervisors.streams import connect_unix
from volant.volantd.vms.monitor import VmMonitor
from volant.volantd.vms.process_log import ProcessLog
from volant.volantd.vms.record import VmRecord


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("control"))


def read_public_host_key(folder: Path) -> str:
    read_host_key(folder)
    return (folder / "host_key.pub").read_text().strip()


async def talk(harness: GuestHarness, guest: Guest) -> None:
    client_key = (harness.folder / "client_key").read_text()
    host_key = read_public_host_key(harness.folder)
    with pytest.raises(Unreachable):
        # Another key than the pinned one is refused, and the stream can be connected again afterwards.
        async with open_connection(
            await connect_unix(guest.control_socket),
            client_key,
            read_client_key(harness.folder),
            timeout_seconds=60,
        ):
            pass
    async with (
        open_connection(
            await connect_unix(guest.control_socket), client_key, host_key, timeout_seconds=60
        ) as connection,
        open_control(connection) as control,
    ):
        assert control.hello.agent_version
        async with asyncio.timeout(60):
            async for state in control.follow_state():
                if state.phase == "running" and any(
                    process.state == "running" for process in state.processes
                ):
                    break
        stats = await control.get_stats()
        assert stats.memory_total_bytes > 100 << 20
        outcome = await connection.run(["sh", "-c", "echo out; echo err >&2; cat; exit 3"], stdin=b"in")
        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (3, b"out\nin", b"err\n")
        entries = [entry async for portion in control.read_logs(LogQuery(tail=100)) for entry in portion]
        assert any(entry.line == "workload speaks" for entry in entries)
        async with connection.open_port_stream(7) as (reader, writer):
            writer.write(b"hello\n")
            assert await reader.read(100) == b"hello\n"

        async def answer(port: int) -> bytes | None:
            return b"s3cret" if port == 9000 else None

        await connection.answer_secrets([9000], answer)
        async with connection.open_session_stream() as (reader, _):
            assert (await reader.read(4)) == b"SSH-"
        await control.set_clock(time.time_ns())
        await control.stop("poweroff", 5)
        await connection.wait_closed()


def test_the_host_end_of_the_control_stream(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    disk = make_disk(root, tmp_path / "disk.img")
    read_client_key(harness.folder)
    command = ["/bin/sh", "-c", "echo workload speaks; exec nc -ll -p 7 -e cat"]
    with harness.boot(disk, settings={"workload": {"entrypoint": command}}) as guest:
        guest.wait_for("kestrel")
        asyncio.run(talk(harness, guest))
        guest.wait_for_end()


async def read_clock(connection: GuestConnection) -> float:
    """By how much a guest's clock is ahead of the time that it has been running (whole seconds)."""
    outcome = await connection.run(["sh", "-c", "date +%s; cut -d. -f1 /proc/uptime"])
    now, uptime = outcome.stdout.split()
    return int(now) - int(uptime)


async def watch_clock(harness: GuestHarness, guest: Guest, folder: Path) -> None:
    identity = identify(guest.process.pid)
    assert identity is not None
    machine = await Qemu(folder).adopt(identity, guest.spec)
    assert machine is not None
    record = SimpleNamespace(
        name="test",
        spec=guest.spec,
        control_key=(harness.folder / "client_key").read_text(),
        host_key=read_host_key(harness.folder),
        definition=SimpleNamespace(secrets=[]),
    )
    ended = asyncio.Event()

    async def on_end(_: MachineEnd) -> None:
        ended.set()

    monitor = VmMonitor(
        cast("VmRecord", record),
        machine,
        ProcessLog(folder / "process.log", 1 << 20),
        lambda _: None,
        on_agent=lambda _: None,
        on_state=lambda _: None,
        on_end=on_end,
        clock_seconds=0.2,
    )
    connected = await monitor.wait_connected(60)
    assert connected is not None
    before = await read_clock(connected.connection)
    await machine.pause()
    assert machine.state is MachineState.PAUSED
    await asyncio.sleep(3)
    await machine.resume()
    for _ in range(300):
        # Three seconds in whole seconds are two at least.
        if (gained := await read_clock(connected.connection) - before) >= 2:
            break
        await asyncio.sleep(0.1)
    assert gained >= 2
    assert monitor.guest is connected, "it was a new connection that brought the time"
    await connected.control.stop("poweroff", 5)
    async with asyncio.timeout(60):
        await ended.wait()
    await monitor.release()


def test_a_paused_guest_gets_the_time_back_over_the_same_connection(
    harness: GuestHarness, tmp_path: Path
) -> None:
    disk = make_disk(make_busybox_root(tmp_path / "root"), tmp_path / "disk.img")
    with harness.boot(disk, settings={"workload": {"entrypoint": ["/bin/sleep", "100000"]}}) as guest:
        guest.wait_for("kestrel")
        asyncio.run(watch_clock(harness, guest, tmp_path))
        guest.wait_for_end()
