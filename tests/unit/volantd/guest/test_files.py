# SPDX-License-Identifier: Apache-2.0
"""Files over SFTP, from a server in this process that takes its time when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from volant.errors import NotFound
from volant.volantd.guest.files import BLOCK_BYTES, read_file, write_file


class Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


class Files(asyncssh.SFTPServer):
    """`left` reads are answered at once, the others when they are `free`."""

    free: asyncio.Event
    is_asked: asyncio.Event
    left = 1 << 20
    most_bytes = 1 << 20

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        type(self).left -= 1
        if self.left < 0:
            self.is_asked.set()
            await self.free.wait()
        return super().read(file_obj, offset, min(size, self.most_bytes))  # type: ignore[return-value]  # no promise


@contextlib.asynccontextmanager
async def connect(folder: Path, *, most_bytes: int = 1 << 20) -> AsyncIterator[tuple[Any, type[Files]]]:
    class Here(Files):
        free = asyncio.Event()
        is_asked = asyncio.Event()

        def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(channel, chroot=os.fsencode(folder))

    Here.most_bytes = most_bytes
    ours, theirs = socket.socketpair()
    key = asyncssh.generate_private_key("ssh-ed25519")
    serving = asyncio.ensure_future(
        asyncssh.run_server(theirs, server_factory=Server, server_host_keys=[key], sftp_factory=Here)
    )
    async with asyncssh.connect("guest", sock=ours, known_hosts=None, username="root", config=None) as ssh:
        await serving
        yield ssh, Here


@pytest.mark.parametrize("most_bytes", [1 << 20, 7001], ids=["whole blocks", "as a slow file does"])
@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 9 * BLOCK_BYTES, 10 * BLOCK_BYTES + 77])
async def test_a_file_is_read_as_it_is(size: int, most_bytes: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    async with connect(tmp_path, most_bytes=most_bytes) as (ssh, _):
        assert b"".join([block async for block in read_file(ssh, "/file")]) == content
        with pytest.raises(NotFound, match="cannot read /other in the guest"):
            await anext(read_file(ssh, "/other"))


async def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first "
        yield b"second"

    async def broken() -> AsyncIterator[bytes]:
        yield b"first"
        raise ConnectionResetError("the client is gone")

    async with connect(tmp_path) as (ssh, _):
        await write_file(ssh, "/file", chunks(), 0o640)
        with pytest.raises(Exception, match="the client is gone"):
            await write_file(ssh, "/other", broken(), 0o640)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"first second"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("blocks_read", [0, 2])
async def test_who_leaves_early_leaves_nothing_that_fails_later(blocks_read: int, tmp_path: Path) -> None:
    """Neither the blocks that were asked for ahead, of which the last lie behind the file's end, nor the file."""
    (tmp_path / "file").write_bytes(bytes(3 * BLOCK_BYTES + 5))
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with connect(tmp_path) as (ssh, files):
        files.left = blocks_read

        async def download() -> None:
            async with contextlib.aclosing(read_file(ssh, "/file")) as chunks:
                async for _ in chunks:
                    pass

        client = asyncio.create_task(download())
        await asyncio.wait_for(files.is_asked.wait(), 60)
        client.cancel()
        asyncio.get_running_loop().call_later(0.05, files.free.set)
        with pytest.raises(asyncio.CancelledError):
            await client
        # The connection serves on, and what was asked for on it has been answered.
        assert len(b"".join([block async for block in read_file(ssh, "/file")])) == 3 * BLOCK_BYTES + 5
    del client
    gc.collect()
    await asyncio.sleep(0)
    assert [context["message"] for context in reported] == []
