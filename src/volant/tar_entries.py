# SPDX-License-Identifier: Apache-2.0
"""Entries of a tar that is streamed: a plain file's header, its content's padding, the archive's end.

ustar (POSIX.1-1988), and names that do not fit as GNU tar has them.
"""

from __future__ import annotations

import tarfile

END = bytes(2 * tarfile.BLOCKSIZE)


def make_header(name: str, size: int, *, mode: int = 0o600, mtime: int = 0) -> bytes:
    """Of a plain file of `size` bytes; the same on every machine. `mtime` in seconds since the epoch."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, mode, mtime
    return entry.tobuf(tarfile.GNU_FORMAT)


def make_padding(size: int) -> bytes:
    """What stands between a content of `size` bytes and the next header."""
    return bytes(-size % tarfile.BLOCKSIZE)


def make_entry(name: str, content: bytes, *, mode: int = 0o600, mtime: int = 0) -> bytes:
    return make_header(name, len(content), mode=mode, mtime=mtime) + content + make_padding(len(content))
