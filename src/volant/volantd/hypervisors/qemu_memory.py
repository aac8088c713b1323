# SPDX-License-Identifier: Apache-2.0
"""A QEMU machine's memory and devices as two files, and a machine made of them.

RAM is a memfd that QEMU shares with whoever may open it by /proc. A snapshot of a paused machine is then a state of
some hundred kB, written by QEMU's own migration with RAM left out (`x-ignore-shared`,
https://www.qemu.org/docs/master/devel/migration/features.html), and a copy of the memfd's pages; the machine goes
on where it is. A machine that wakes maps that copy privately: what it does not write is shared with all others of the
same copy. Its RAM is no memfd any more, so a snapshot of it in turn has all of its memory in the state.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient, QMPError

from volant.errors import StorageFull, ToolFailed
from volant.volantd.hypervisors.base import MEMORY_DESCRIPTOR, MemoryImage, VmSpec

STATE_NAME = "state"
# What QEMU calls its own.
MEMFD_NAME = "memory-backend-memfd"
POLL_SECONDS = 0.003
SAVE_SECONDS = 120.0

Execute = Callable[..., Awaitable[Any]]


async def save_memory(client: QMPClient, pid: int, folder: Path) -> MemoryImage:
    """Write a paused machine to files in `folder`. Raises ToolFailed or StorageFull, with no file left."""
    pages = await asyncio.to_thread(open_shared_memory, pid)
    image = MemoryImage(folder, has_pages=pages is not None)
    try:
        await _set_ignore_shared(client, pages is not None)
        await _migrate(client, image.state)
        if pages is not None:
            await asyncio.to_thread(keep_pages, pages, image.memory)
    except BaseException:
        for path in (image.state, image.memory):
            path.unlink(missing_ok=True)
        raise
    finally:
        if pages is not None:
            os.close(pages)
    return image


async def load_memory(client: QMPClient, image: MemoryImage) -> None:
    """Give a machine that was started with `-incoming defer` its state; it is paused then."""
    await _set_ignore_shared(client, image.has_pages)
    # QEMU would have the guest announce itself, while it still has the name and address of whom it was copied from.
    await client.execute("migrate-set-parameters", {"announce-rounds": 0})
    with image.state.open("rb") as stream:
        await _pass_descriptor(client, stream.fileno())
        await client.execute("migrate-incoming", {"uri": f"fd:{STATE_NAME}"})
    async with asyncio.timeout(SAVE_SECONDS):
        while True:
            status = await client.execute("query-status")
            if not isinstance(status, dict) or status.get("status") != "inmigrate":
                return
            await asyncio.sleep(POLL_SECONDS)


async def _set_ignore_shared(client: QMPClient, on: bool) -> None:
    capabilities = [{"capability": "x-ignore-shared", "state": on}]
    await client.execute("migrate-set-capabilities", {"capabilities": capabilities})


async def _pass_descriptor(client: QMPClient, descriptor: int) -> None:
    client.send_fd_scm(descriptor)
    await client.execute("getfd", {"fdname": STATE_NAME})


async def _migrate(client: QMPClient, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        await _pass_descriptor(client, descriptor)
        await client.execute("migrate", {"uri": f"fd:{STATE_NAME}"})
        async with asyncio.timeout(SAVE_SECONDS):
            while True:
                progress = await client.execute("query-migrate")
                status = progress.get("status") if isinstance(progress, dict) else None
                if status == "completed":
                    return
                if status in ("failed", "cancelled"):
                    reason = (
                        progress.get("error-desc", "QEMU does not say why")
                        if isinstance(progress, dict)
                        else ""
                    )
                    raise ToolFailed(f"cannot write the machine's state: {reason}")
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        with suppress(QMPError):
            await client.execute("migrate_cancel")
        raise ToolFailed(f"cannot write the machine's state: no end after {SAVE_SECONDS:g} s") from None
    finally:
        os.close(descriptor)


def open_shared_memory(pid: int) -> int | None:
    """A descriptor of the machine's RAM, or None where it is not shared (a machine that woke from a copy)."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(entry).startswith(f"/memfd:{MEMFD_NAME}"):
                return os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
    return None


@contextmanager
def lend_memory(spec: VmSpec) -> Iterator[tuple[Mapping[int, int], Callable[[], None]]]:
    """Descriptors for a machine's process, by its numbers for them, and what fills its RAM beside its start."""
    image = spec.wakes_from
    if image is None or not image.is_copied:
        yield {}, lambda: None
        return
    source = os.open(image.memory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.memfd_create(MEMFD_NAME)
        try:
            os.ftruncate(target, spec.memory_mb << 20)
            yield {MEMORY_DESCRIPTOR: target}, lambda: copy_pages(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def copy_pages(source: int, target: int) -> None:
    """Copy what was ever written of a memory file into an empty one of its size; the rest stays a hole."""
    position, size = 0, os.fstat(source).st_size
    while position < size:
        try:
            begin = os.lseek(source, position, os.SEEK_DATA)
        except OSError:  # ENXIO: only holes follow
            break
        end = os.lseek(source, begin, os.SEEK_HOLE)
        os.lseek(target, begin, os.SEEK_SET)
        while begin < end:
            begin += os.sendfile(target, source, begin, end - begin)
        position = end


def keep_pages(source: int, target: Path) -> None:
    """Copy RAM to a file. StorageFull where there is no room."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, os.fstat(source).st_size)
        copy_pages(source, descriptor)
    except OSError as error:
        raise StorageFull(
            f"cannot keep the machine's memory: {error.strerror or error}",
            resolution="free some space in the state folder",
        ) from error
    finally:
        os.close(descriptor)
