# SPDX-License-Identifier: Apache-2.0
"""Entries of a tar that is streamed: a plain file's header, its content's padding, the archive's end.

ustar (POSIX.1-1988), and names that do not fit as GNU tar has them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import BinaryIO

END = bytes(2 * tarfile.BLOCKSIZE)
CHUNK_BYTES = 1 << 20


def make_header(name: str, size: int, *, mode: int = 0o600, mtime: int = 0, owner: int = 0) -> bytes:
    """Of a plain file of `size` bytes, or of a folder where the name ends in a slash; the same on every machine.
    `mtime` in seconds since the epoch; `owner` is user and group."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, mode, mtime
    entry.uid = entry.gid = owner
    entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    return entry.tobuf(tarfile.GNU_FORMAT)


def make_padding(size: int) -> bytes:
    """What stands between a content of `size` bytes and the next header."""
    return bytes(-size % tarfile.BLOCKSIZE)


def make_entry(name: str, content: bytes, *, mode: int = 0o600, mtime: int = 0) -> bytes:
    return make_header(name, len(content), mode=mode, mtime=mtime) + content + make_padding(len(content))


def stream_archive(name: str, content: bytes, files: Iterable[tuple[str, int, BinaryIO]]) -> Iterator[bytes]:
    """A document, and behind it files: name, bytes and what they are read from, which is closed at the end."""
    with ExitStack() as stack:
        opened = [(file, size, stack.enter_context(stream)) for file, size, stream in files]
        yield make_entry(name, content)
        for file, size, stream in opened:
            yield make_header(file, size)
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
            yield make_padding(size)
        yield END
