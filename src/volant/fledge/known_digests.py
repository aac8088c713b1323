# SPDX-License-Identifier: Apache-2.0
"""Stretches of files whose digest was checked before, while the files are as they were.

A file is as it was while device, inode, size and both times are the same: whatever is written into it changes the time
of its last change (ctime), which nobody can set back. What changed within the clock's grain of being read could still
hide, so only what had lain still for a while is noted (git does the same with its index). Unlike a cache of results
this one saves reading alone: what was noted is a check that passed.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from volant.errors import VolantError
from volant.whole_file import write_whole_file

MOST_ENTRIES = 4096
# Times of file systems are as coarse as 2 s.
_STILL_SECONDS = 3.0


def find_cache_folder() -> Path:
    """`$VOLANT_HOME/cache/fledge` where that is set, else `$XDG_CACHE_HOME/volant/fledge`, else below ~/.cache."""
    home = os.environ.get("VOLANT_HOME")
    if home:
        return Path(home) / "cache" / "fledge"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "volant" / "fledge"


def seal(text: bytes) -> bytes:
    """A text behind its digest."""
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def unseal(sealed: bytes) -> bytes:
    """Raises ValueError for what is not as it was written."""
    text = sealed.partition(b"\n")[2]
    if seal(text) != sealed:
        raise ValueError("it was damaged")
    return text


def digest_file(path: Path, known: KnownDigests | None) -> str:
    """The SHA-256, as `sha256:…`, of a file that is read only if it is not known. Raises OSError."""
    with path.open("rb") as file:
        descriptor = file.fileno()
        length = os.fstat(descriptor).st_size
        state = known.find_state(descriptor) if known is not None else ""
        digest = known.find_digest(state, length) if known is not None else None
        if digest is None:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if known is not None:
                known.note(descriptor, state, 0, length, digest)
        return digest


class KnownDigests:
    """The notes of one cache folder, written back when the context ends; threads may ask and note at the same time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "digests.json"
        self._lock = threading.Lock()
        self._used: dict[str, None] = {}
        self._known: dict[str, None] = {}
        with suppress(OSError, ValueError, TypeError, RecursionError):
            self._known = dict.fromkeys(map(str, json.loads(unseal(self._path.read_bytes()))))

    def find_state(self, descriptor: int) -> str:
        """What tells a file from every other and from itself after a change; empty where times cannot be trusted."""
        status = os.fstat(descriptor)
        latest = max(status.st_mtime_ns, status.st_ctime_ns)
        # A file without a name is a spool of this process.
        if not status.st_nlink or not 0 < latest < (time.time() - _STILL_SECONDS) * 1e9:
            return ""
        return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"

    def knows(self, state: str, offset: int, length: int, digest: str) -> bool:
        key = f"{state} {offset} {length} {digest}"
        with self._lock:
            if not state or key not in self._known:
                return False
            self._used[key] = None
            return True

    def find_digest(self, state: str, length: int) -> str | None:
        """The SHA-256, as `sha256:…`, of a whole file, if it was noted."""
        start = f"{state} 0 {length} sha256:"
        with self._lock:
            key = next((key for key in self._known if state and key.startswith(start)), None)
            if key is None:
                return None
            self._used[key] = None
            return key.rpartition(" ")[2]

    def note(self, descriptor: int, state: str, offset: int, length: int, digest: str) -> None:
        """The digest was found to be right. `state` is the file's before it was read."""
        if state and self.find_state(descriptor) == state:
            with self._lock:
                self._used[f"{state} {offset} {length} {digest}"] = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The latest used at the end. A failure costs the next build some time.
        others = [key for key in self._known if key not in self._used]
        kept = [*others, *self._used][-MOST_ENTRIES:]
        if kept != list(self._known):
            with suppress(OSError, VolantError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole_file(self._path, seal(json.dumps(kept).encode()), is_durable=False)
