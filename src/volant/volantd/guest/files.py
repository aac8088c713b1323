# SPDX-License-Identifier: Apache-2.0
"""Files of a guest over the agent's SFTP (the protocol's version 3, with OpenSSH's posix-rename)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from volant.errors import GuestFailed, NotFound, NotPermitted, Unreachable
from volant.volantd.guest.ssh_library import asyncssh
from volant.volantd.tasks import end_tasks

# What the agent sends at once.
BLOCK_BYTES = 1 << 15
MOST_BLOCKS_AHEAD = 4


async def read_file(ssh: asyncssh.SSHClientConnection, path: str) -> AsyncGenerator[bytes, None]:
    with _explained(f"cannot read {path} in the guest"):
        # The library's own way to ask ahead (a size of blocks) leaves its tasks to themselves when it is cancelled.
        async with (
            ssh.start_sftp_client() as sftp,
            sftp.open(path, "rb", block_size=0) as file,
            contextlib.aclosing(_read_blocks(file)) as blocks,
        ):
            async for block in blocks:
                yield block


async def _read_blocks(file: asyncssh.SFTPClientFile) -> AsyncGenerator[bytes, None]:
    """What is in it; some blocks are asked for ahead, since each answer is a way there and back."""
    coming: deque[asyncio.Task[bytes]] = deque()  # of a file that is opened as bytes
    position = asked = 0
    most_ahead = 1
    try:
        while True:
            while len(coming) < most_ahead:
                coming.append(asyncio.ensure_future(file.read(BLOCK_BYTES, asked)))
                asked += BLOCK_BYTES
            block = await coming[0]
            coming.popleft()
            if not block:
                return
            yield block
            position += len(block)
            if len(block) == BLOCK_BYTES:
                most_ahead = MOST_BLOCKS_AHEAD
            else:  # nearly always the last one; what follows was asked for at the wrong place
                await end_tasks(coming)
                coming.clear()
                asked, most_ahead = position, 1
    finally:
        await end_tasks(coming)


async def write_file(
    ssh: asyncssh.SSHClientConnection, path: str, chunks: AsyncIterator[bytes], mode: int
) -> None:
    """Write beside the place and rename: whoever reads meanwhile has the old file whole, or the new one."""
    draft = f"{path}.{secrets.token_hex(4)}.partial"
    with _explained(f"cannot write {path} in the guest"):
        async with ssh.start_sftp_client() as sftp:
            try:
                async with sftp.open(draft, "xb", asyncssh.SFTPAttrs(permissions=mode)) as file:
                    async for chunk in chunks:
                        await file.write(chunk)
                await sftp.chmod(draft, mode)
                await sftp.posix_rename(draft, path)
            except BaseException:
                with contextlib.suppress(asyncssh.Error, OSError):
                    await sftp.remove(draft)
                raise


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """SFTP's own errors as ours."""
    try:
        yield
    except asyncssh.SFTPNoSuchFile as error:
        raise NotFound(f"{what}: there is no such file or folder") from error
    except asyncssh.SFTPPermissionDenied as error:
        raise NotPermitted(f"{what}: permission denied") from error
    except asyncssh.SFTPError as error:
        raise GuestFailed(f"{what}: {error.reason}") from error
    except (asyncssh.Error, OSError) as error:
        raise Unreachable(f"{what}: {error}") from error
