# SPDX-License-Identifier: Apache-2.0
"""The two ways through a machine's vsock device, which on this host is a UNIX socket (docs/vsock.md there).

To a port of the guest: connect, say `CONNECT port`, read `OK n`. From the guest to a port of CID 2: somebody listens on
the socket's name with `_port` behind it. This host's own AF_VSOCK is never involved.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

from volant.errors import Unreachable
from volant.volantd.hypervisors.streams import connect_unix

MOST_ANSWER_BYTES = 32


async def open_guest_port(vsock: Path, port: int, answer_seconds: float) -> socket.socket:
    """A stream to whoever listens in the guest. Unreachable where nobody does yet."""
    stream = await connect_unix(vsock)
    try:
        async with asyncio.timeout(answer_seconds):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(stream, f"CONNECT {port}\n".encode())
            answer = await _read_line(stream)
    except TimeoutError:
        stream.close()
        raise Unreachable(f"cannot connect to port {port} of the guest: no answer") from None
    except OSError as error:
        stream.close()
        raise Unreachable(f"cannot connect to port {port} of the guest: {error.strerror or error}") from error
    except BaseException:
        stream.close()
        raise
    if not answer.startswith(b"OK "):
        stream.close()
        raise Unreachable(f"cannot connect to port {port} of the guest: nothing listens there yet")
    return stream


async def _read_line(stream: socket.socket) -> bytes:
    """To the end of the line and no further: what follows is the guest's."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n") and len(line) < MOST_ANSWER_BYTES:
        byte = await loop.sock_recv(stream, 1)
        if not byte:
            break
        line += byte
    return line


def listen_for_guest(path: Path, folder: Path) -> socket.socket:
    """A listening socket at `path` for the hypervisor alone, which is of the user that `folder` belongs to."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        owner = folder.stat()
        if stat.S_ISDIR(owner.st_mode) and owner.st_uid != os.geteuid():
            os.chown(path, owner.st_uid, owner.st_gid)
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    return listener
