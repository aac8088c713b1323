# SPDX-License-Identifier: Apache-2.0
"""Temporary folders for tools that need names: gone with the work, or, after a kill -9, with the next of its kind.

While a folder is used its process holds a lock on it, as whole_file.py does for files, so what is left behind is known.
A folder with something mounted below it is never removed: a builder that was killed may have left the host's own there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from volant.fledge.spool import find_spool_folder

# Not what older versions called theirs, which hold no lock.
_PREFIX = "volant-fledge-"


def make_scratch_folder(stack: ExitStack) -> Path:
    """A folder of ours alone; the stack removes it."""
    parent = find_spool_folder()
    _sweep(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):  # a file system without locks: nothing is swept there either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A sweep may have come between the two calls.
        if folder.is_dir():
            break
        os.close(descriptor)
    stack.callback(os.close, descriptor)
    stack.callback(_remove, folder)
    return folder


def _sweep(parent: Path) -> None:
    """Remove what processes of this user that are gone have left."""
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(_PREFIX):
                with suppress(OSError):
                    _sweep_one(Path(entry.path))


def _sweep_one(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    if not _has_mounts(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _has_mounts(folder: Path) -> bool:
    """Whether something is mounted at or below a folder (proc(5): the fifth field of mountinfo, spaces as octal)."""
    shown = str(folder.resolve()).replace(" ", "\\040")
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    return any(f"{line.split()[4]}/".startswith(f"{shown}/") for line in lines)
