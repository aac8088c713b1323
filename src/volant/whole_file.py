# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all.

A file is written beside its place, under a short name of its own, and renamed when it is complete. While it is written
its process holds a lock on it, which the kernel lets go when the process ends however it ends: so whoever writes into
the same folder next knows what was left behind, and removes it. A process id would say less: containers share folders
and count processes each from 1.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from volant.errors import NotPermitted, StorageFull, VolantError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PREFIX, _SUFFIX = ".volant-", ".partial"


class WholeFile:
    """A context manager; what has not been published when it is left is gone."""

    def __init__(self, target: Path, *, mode: int = 0o666, is_durable: bool = True) -> None:
        """`mode` is subject to the umask. What is not durable may be lost when the machine fails."""
        self.target = target
        self.descriptor = -1
        self._mode = mode
        self._is_durable = is_durable
        self._path: Path | None = None

    def __enter__(self) -> Self:
        sweep_partial_files(self.target.parent)
        try:
            self.descriptor, self._path = _open_partial(self.target.parent, self._mode)
        except OSError as error:
            raise self._explain(error) from error
        return self

    def publish(self) -> None:
        """Give the file its name, in place of what has it."""
        assert self._path is not None, "a file is published once"
        try:
            if self._is_durable:
                os.fsync(self.descriptor)
            os.replace(self._path, self.target)
        except OSError as error:
            raise self._explain(error) from error
        self._path = None

    def _explain(self, error: OSError) -> VolantError | OSError:
        if error.errno in _FULL:
            return StorageFull(
                f"cannot write {self.target}: {error.strerror}",
                resolution="free some space, or write to another place",
            )
        if isinstance(error, PermissionError):
            return NotPermitted(f"cannot write {self.target}: {error.strerror}")
        return OSError(error.errno, error.strerror, str(self.target))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)
        if isinstance(error, OSError) and error.errno in _FULL and not error.filename:
            raise self._explain(error) from error


def write_whole_file(target: Path, content: bytes, *, mode: int = 0o666, is_durable: bool = True) -> None:
    """Write a file that is short enough to be at hand. Raises NotPermitted, StorageFull or OSError."""
    with WholeFile(target, mode=mode, is_durable=is_durable) as file:
        view = memoryview(content)
        while view:
            view = view[os.write(file.descriptor, view) :]
        file.publish()


def flush(path: Path) -> None:
    """Until a file's bytes, or a folder's names, would be there after a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_partial(folder: Path, mode: int) -> tuple[int, Path]:
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A sweep may have come between the two calls.
            if os.fstat(descriptor).st_nlink:
                return descriptor, path
        except BlockingIOError:
            pass
        except OSError:
            # A file system without locks: nothing is swept there either.
            return descriptor, path
        os.close(descriptor)


def sweep_partial_files(folder: Path) -> None:
    """Remove what processes that are gone left in a folder."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):
                    _sweep(entry.path)


def _sweep(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)
