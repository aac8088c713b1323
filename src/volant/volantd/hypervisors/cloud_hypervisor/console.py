# SPDX-License-Identifier: Apache-2.0
"""Typing at a serial console whose output is a file: Cloud Hypervisor's standard streams.

It reads standard input where that is a terminal (serial mode `Tty`). It gets the master of a pseudoterminal, whose
other end is a path that whoever is the daemon by then can open: nobody has to keep a descriptor. It holds that other
end, too, so that the terminal never hangs up. What the guest writes goes to the console's log whether somebody reads
or not, and is read from there.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from volant.volantd.tasks import end_tasks

TERMINAL_DESCRIPTOR = 97
LOOK_SECONDS = 0.05
CHUNK_BYTES = 4096


@contextmanager
def opened_terminal() -> Iterator[dict[int, int]]:
    """Descriptors by the numbers that the process has for them; none on a host that has no pseudoterminals."""
    try:
        master, end = os.openpty()
    except OSError:
        yield {}
        return
    try:
        tty.setraw(end)
        yield {0: master, TERMINAL_DESCRIPTOR: end}
    finally:
        os.close(master)
        os.close(end)


def find_terminal(pid: int) -> Path | None:
    """The other end of a process's standard input, by the kernel's word alone: what the process says counts for
    nothing. None where it has no such terminal (a daemon before this one has started it), or has ended."""
    try:
        described = Path(f"/proc/{pid}/fdinfo/0").read_text()
    except OSError:
        return None
    found = re.search(r"^tty-index:\s*(\d+)$", described, re.MULTILINE)
    return Path("/dev/pts") / found[1] if found is not None else None


class AttachedConsole:
    """One who reads and types, at `stream`: until it is closed, or the process has ended and all is said."""

    def __init__(self, terminal: Path, log: Path, is_ended: Callable[[], bool]) -> None:
        """OSError where the terminal cannot be opened."""
        self._terminal = os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._log = log
        self._is_ended = is_ended
        self._at = log.stat().st_size
        self.stream, self._ours = socket.socketpair()
        self.stream.setblocking(False)
        self._ours.setblocking(False)
        self.task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        halves = {asyncio.create_task(self._type()), asyncio.create_task(self._show())}
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(halves)
            self._ours.close()
            os.close(self._terminal)

    async def _type(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._ours, CHUNK_BYTES):
            while data:
                try:
                    data = data[os.write(self._terminal, data) :]
                except BlockingIOError:  # a guest that reads nothing
                    await asyncio.sleep(LOOK_SECONDS)

    async def _show(self) -> None:
        loop = asyncio.get_running_loop()
        with self._log.open("rb", buffering=0) as stream:
            while True:
                is_last = self._is_ended()
                self._at = min(self._at, os.fstat(stream.fileno()).st_size)  # it may have been trimmed
                if data := os.pread(stream.fileno(), CHUNK_BYTES, self._at):
                    self._at += len(data)
                    await loop.sock_sendall(self._ours, data)
                elif is_last:
                    return
                else:
                    await asyncio.sleep(LOOK_SECONDS)
