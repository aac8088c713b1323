# SPDX-License-Identifier: Apache-2.0
"""Archives on their way to and from the daemon: a file that is there whole or not at all, or a pipe."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from volant.errors import NotFound, UsageError
from volant.whole_file import WholeFile

CHUNK_BYTES = 1 << 20


def write_reply(reply: IO[bytes], file: str) -> None:
    """A stream to a file of this user's own (0600: it may hold secrets), or with "-" to standard output."""
    if file == "-":
        if sys.stdout.isatty():
            raise UsageError("cannot write an archive to a terminal", resolution="pipe it on, or name a file")
        shutil.copyfileobj(reply, sys.stdout.buffer, CHUNK_BYTES)
        sys.stdout.buffer.flush()
        return
    with WholeFile(Path(file), mode=0o600) as target, os.fdopen(os.dup(target.descriptor), "wb") as stream:
        shutil.copyfileobj(reply, stream, CHUNK_BYTES)
        stream.flush()
        target.publish()


@contextmanager
def open_upload(file: str) -> Iterator[Iterator[bytes]]:
    """The pieces of a file, or with "-" of standard input."""
    if file == "-":
        yield _read(sys.stdin.buffer)
        return
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        yield _read(stream)


def _read(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk
