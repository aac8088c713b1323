# SPDX-License-Identifier: Apache-2.0
"""Keeps a VM's file server running: one process for as long as the VM runs, whoever the daemon is meanwhile.

It outlives the daemon as QEMU does. It holds a lock on a file in the VM's folder, with its process number in it: a
daemon that comes back finds it by that, and one that finds the lock free starts another server, from which the guest's
agent goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from volant.errors import VolantError
from volant.forked_programs import start_forked
from volant.volantd.folders import server

logger = logging.getLogger(__name__)

# The numbers under which the server has its descriptors.
STREAM, LOCK = 10, 11
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 5.0
LOCK_NAME, LOG_NAME = "folders.lock", "folders.log"

OpenStream = Callable[[], Awaitable[socket.socket]]


@dataclass(frozen=True, slots=True)
class Share:
    """A folder or file of this host."""

    source: str
    read_only: bool

    @property
    def argument(self) -> str:
        return f"{'ro' if self.read_only else 'rw'}:{self.source}"


async def keep_serving(folder: Path, mark: str, shares: Sequence[Share], open_stream: OpenStream) -> None:
    """Until it is cancelled: a file server for the VM with this folder, at the port that `open_stream` leads to."""
    delay = FIRST_RETRY_SECONDS
    while True:
        try:
            pid = await _find_or_start(folder, mark, shares, open_stream)
            await _wait_for(pid)
            logger.debug("file server %d has ended", pid)
        except (VolantError, OSError) as error:
            logger.warning("cannot serve the folders of %s: %s", folder.name, error)
            delay = min(delay * 2, LAST_RETRY_SECONDS)
        else:
            delay = FIRST_RETRY_SECONDS
        await asyncio.sleep(delay)


async def _find_or_start(folder: Path, mark: str, shares: Sequence[Share], open_stream: OpenStream) -> int:
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.pread(lock, 32, 0) or b"0")
        with await open_stream() as stream:
            stream.setblocking(True)
            arguments = [str(STREAM), mark, *(share.argument for share in shares)]
            descriptors = {STREAM: stream.fileno(), LOCK: lock}
            pid = await asyncio.to_thread(
                start_forked, server.__file__, arguments, folder / LOG_NAME, descriptors=descriptors
            )
        os.pwrite(lock, b"%-31d\n" % pid, 0)
        return pid
    finally:
        os.close(lock)


async def _wait_for(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, ended.cancel)
    try:
        await asyncio.wait({ended})
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        _reap(pid)


def _reap(pid: int) -> None:
    """Where it is a child of ours, and has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
