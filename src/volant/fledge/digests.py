# SPDX-License-Identifier: Apache-2.0
"""Digests are checked in the background, and their verdict is asked for just before something is published.

hashlib lets go of the interpreter lock, and the threads that hash yield their core to whoever wants it: they live off
the core that is idle while layers are merged and while the finished disk is hashed. Nothing that comes out of
unverified bytes may reach a user: the pipeline calls `DigestChecks.verify` before it renames the finished plugin into
place.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self

from volant.errors import InvalidInput
from volant.fledge.known_digests import KnownDigests

# Hashing it takes twice as long as the wait for the interpreter lock before it, up to 5 ms.
CHUNK_BYTES = 16 << 20
# Of whoever waits for the rest, when nobody else wants the lock any more.
_LAST_CHUNK_BYTES = 1 << 20
# The lowest there is. Whatever is hashed while the disk is compressed is missing later, when the finished disk is
# hashed on one core and the other has nothing else to do.
_NICE = 19
# The algorithms that the image specification registers, with the length of their hexadecimal form.
ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


def parse_digest(digest: object) -> tuple[str, str]:
    """Split `sha256:<hex>`; InvalidInput for anything else, so that the parts are safe as file names."""
    if isinstance(digest, str):
        algorithm, _, value = digest.partition(":")
        if len(value) == ALGORITHMS.get(algorithm) and set(value) <= set("0123456789abcdef"):
            return algorithm, value
    raise InvalidInput(f"cannot read the image: {str(digest)[:100]!r} is no digest that fledge knows")


def check_bytes(what: str, content: bytes, digest: str) -> None:
    """Check a small document at once. Raises InvalidInput."""
    algorithm, value = parse_digest(digest)
    found = hashlib.new(algorithm, content).hexdigest()
    if found != value:
        raise damaged(what, digest, f"{algorithm}:{found}")


def damaged(what: str, expected: str, found: str) -> InvalidInput:
    return InvalidInput(
        f"cannot use {what}: its content is not what its digest promises",
        details=[f"expected {expected}", f"found    {found}"],
        resolution="the file was damaged or changed on its way: save or fetch the image again",
    )


class DigestChecks:
    """Digests that are being checked. A context manager: on leaving, what still runs is stopped and waited for.

    Enter it after the descriptors that it reads have been registered for closing, so that it ends before they do.
    """

    def __init__(self, workers: int = 0) -> None:
        # One core stays free for the thread that merges and plans: it alone decides when compression can begin.
        workers = workers or max(1, min(4, (os.cpu_count() or 1) - 1))
        self._pool = ThreadPoolExecutor(workers, "digest", initializer=self._prepare_thread)
        # Of each thread one for all its checks: memory that is new costs a third of the digest.
        self._local = threading.local()
        self._stopping = threading.Event()
        self._checks: list[tuple[str, Future[None], Callable[[], None]]] = []
        # Where set, what is known to be right is not read again.
        self.known: KnownDigests | None = None
        self.have_begun = False

    def add(self, what: str, digest: str, descriptor: int, offset: int, length: int) -> None:
        """Begin to hash `length` bytes at `offset` of a descriptor. `what` names them in the error."""
        algorithm, value = parse_digest(digest)
        check = partial(self._check, what, algorithm, value, descriptor, offset, length)
        self._checks.append((what, self._pool.submit(check), check))

    def _check(
        self, what: str, algorithm: str, value: str, descriptor: int, offset: int, length: int
    ) -> None:
        known, expected, start = self.known, f"{algorithm}:{value}", offset
        state = known.find_state(descriptor) if known is not None else ""
        if known is not None and known.knows(state, offset, length, expected):
            return
        found = hashlib.new(algorithm)
        buffer = getattr(self._local, "buffer", None) or self._make_buffer(_LAST_CHUNK_BYTES)
        end = offset + length
        while offset < end and not self._stopping.is_set():
            count = os.preadv(descriptor, [buffer[: end - offset]], offset)
            if not count:
                break
            found.update(buffer[:count])
            offset += count
        if found.hexdigest() == value:
            if known is not None:
                known.note(descriptor, state, start, length, expected)
        elif not self._stopping.is_set():
            raise damaged(what, expected, f"{algorithm}:{found.hexdigest()}")

    def _prepare_thread(self) -> None:
        # Linux schedules threads by a priority of their own (sched(7), "The nice value").
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        self._make_buffer(CHUNK_BYTES)

    def _make_buffer(self, size_bytes: int) -> memoryview:
        self._local.buffer = memoryview(mmap.mmap(-1, size_bytes))
        buffer: memoryview = self._local.buffer
        return buffer

    def verify(self) -> None:
        """Wait for every check so far, and do those that nobody has begun: whoever waits has a core to spare.

        Raises InvalidInput for the first in order that failed.
        """
        failed: dict[int, InvalidInput] = {}
        for number, (_, future, check) in reversed(list(enumerate(self._checks))):
            if future.cancel():
                try:
                    check()
                except InvalidInput as error:
                    failed[number] = error
        for number, (_, future, _) in enumerate(self._checks):
            if number in failed:
                raise failed[number]
            if not future.cancelled():
                future.result()
        self._checks.clear()

    def verify_only(self, what: str) -> None:
        """Wait for the checks of one thing, to blame damaged bytes before blaming what they seem to say."""
        for name, future, _ in self._checks:
            if name == what:
                future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
