# SPDX-License-Identifier: Apache-2.0
"""The UNIX sockets behind which a hypervisor serves a guest's ports."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from volant.errors import Unreachable


async def connect_unix(path: Path) -> socket.socket:
    """A connected socket that does not block. Unreachable where nobody accepts."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connected, str(path))
    except OSError as error:
        connected.close()
        raise Unreachable(f"cannot connect to {path}: {error.strerror or error}") from error
    except BaseException:
        connected.close()
        raise
    return connected
