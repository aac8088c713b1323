# SPDX-License-Identifier: Apache-2.0
"""Whether the names in a folder change, told by the kernel (inotify(7)) and not found by looking again and again."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_NAMES = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
# Where the host has no inotify left for this user (fs.inotify.max_user_instances).
LOOK_SECONDS = 10.0
_BUFFER_BYTES = 4096


@asynccontextmanager
async def watch_folder(folder: Path) -> AsyncIterator[asyncio.Event]:
    """Set at every change; whoever waits for it clears it, and looks then."""
    changed = asyncio.Event()
    descriptor = _open(folder)
    if descriptor is None:
        looking = asyncio.create_task(_look(changed))
        try:
            yield changed
        finally:
            looking.cancel()
        return

    def take() -> None:
        os.read(descriptor, _BUFFER_BYTES)
        changed.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, take)
    try:
        yield changed
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _open(folder: Path) -> int | None:
    descriptor = int(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        return None
    if _LIBC.inotify_add_watch(descriptor, os.fsencode(folder), ctypes.c_uint32(_NAMES)) < 0:
        os.close(descriptor)
        return None
    return descriptor


async def _look(changed: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        changed.set()
