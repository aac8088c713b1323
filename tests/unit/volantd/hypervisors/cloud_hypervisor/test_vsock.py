# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from volant.errors import Unreachable
from volant.volantd.hypervisors.cloud_hypervisor.vsock import listen_for_guest, open_guest_port


async def serve(path: Path, answer: bytes | None) -> asyncio.Server:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"CONNECT 1024\n"
        if answer is None:
            await asyncio.sleep(3600)
        writer.write(answer or b"")
        writer.close()

    return await asyncio.start_unix_server(talk, path)


@pytest.mark.parametrize("answer", [b"", b"O", b"NO\n", b"x" * 1000])
async def test_nobody_listens_yet(folder: Path, answer: bytes) -> None:
    async with await serve(folder / "vs", answer):
        with pytest.raises(Unreachable, match="nothing listens"):
            await open_guest_port(folder / "vs", 1024, 30)


async def test_a_guest_that_has_no_driver_yet_is_not_waited_for_without_end(
    folder: Path,
) -> None:
    server = await serve(folder / "vs", None)
    with pytest.raises(Unreachable, match="no answer"):
        await open_guest_port(folder / "vs", 1024, 0.05)
    server.close()


async def test_what_the_guest_says_first_is_left_to_the_reader(folder: Path) -> None:
    async with await serve(folder / "vs", b"OK 5\nSSH-2.0-agent\r\n"):
        stream = await open_guest_port(folder / "vs", 1024, 30)
        with stream:
            assert await asyncio.get_running_loop().sock_recv(stream, 100) == b"SSH-2.0-agent\r\n"


def test_a_listener_of_before_is_replaced(folder: Path) -> None:
    listen_for_guest(folder / "vs_9000", folder).close()
    listen_for_guest(folder / "vs_9000", folder).close()
    assert (folder / "vs_9000").stat().st_mode & 0o777 == 0o600
