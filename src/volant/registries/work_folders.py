# SPDX-License-Identifier: Apache-2.0
"""Folders below the user's cache in which something is made that is large and of no use when it was cut off.

Each is locked while its program lives: what is not, a program that was killed has left, and the next one removes it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def find_cache_folder(name: str) -> Path:
    """Made where it is not there."""
    if home := os.environ.get("VOLANT_HOME"):
        folder = Path(home).absolute() / "cache" / name
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "volant" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def hold_lock(path: Path) -> Iterator[bool]:
    """Whether nobody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def make_work_folder(name: str) -> Iterator[Path]:
    """Empty, and gone when it is left."""
    cache = find_cache_folder(name)
    for lock in cache.glob("*.lock"):
        with suppress(OSError), hold_lock(lock) as is_left_over:
            if is_left_over:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()
    lock = cache / f"{secrets.token_hex(6)}.lock"
    folder = lock.with_suffix("")
    with hold_lock(lock):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
