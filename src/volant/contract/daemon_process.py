# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: who answers at a socket, and how it is ended. Its VMs run on."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path

from volant.errors import Unreachable

STOP_SECONDS = 30.0


def find_daemon_pid(path: Path) -> int | None:
    """The process at the other end of the socket (unix(7), SO_PEERCRED); None where nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def stop_daemon(path: Path, log: Path) -> bool:
    """End whoever answers at the socket, and wait for it; False where nobody does. Unreachable: it does not end."""
    pid = find_daemon_pid(path)
    if pid is None:
        return False
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], STOP_SECONDS)[0]:
            raise Unreachable(
                f"cannot stop volantd: process {pid} is still there after {STOP_SECONDS:g} s",
                resolution=f"see {log}",
            )
    finally:
        os.close(process)
    return True
