# SPDX-License-Identifier: Apache-2.0
"""volantd's client of the guest's agent against a real guest: control session, exec, streams, secrets, stop."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from e2e.guest_harness import Guest, GuestHarness, make_disk, make_harness, read_client_key, read_host_key
from e2e.test_kestrel_boot import make_busybox_root
from volant.contract.agent import LogQuery
from volant.errors import Unreachable
from volant.volantd.guest.connection import open_connection
from volant.volantd.guest.control import open_control


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
            guest.control_socket, client_key, read_client_key(harness.folder), timeout_seconds=60
        ):
            pass
    async with (
        open_connection(guest.control_socket, client_key, host_key, timeout_seconds=60) as connection,
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
