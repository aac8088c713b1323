# SPDX-License-Identifier: Apache-2.0
"""Files of a guest over the agent's SFTP (the protocol's version 3, with OpenSSH's posix-rename)."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

from volant.errors import GuestFailed, NotFound, NotPermitted, Unreachable
from volant.volantd.guest.ssh_library import asyncssh

CHUNK_BYTES = 1 << 16


async def read_file(ssh: asyncssh.SSHClientConnection, path: str) -> AsyncIterator[bytes]:
    with _explained(f"cannot read {path} in the guest"):
        async with ssh.start_sftp_client() as sftp, sftp.open(path, "rb") as file:
            while chunk := await file.read(CHUNK_BYTES):
                yield chunk  # type: ignore[misc]  # of a file that is opened as bytes


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
