# SPDX-License-Identifier: Apache-2.0
"""Archives on their way to and from the daemon: a file that is there whole or not at all, or a pipe."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from volant.errors import NotFound, UsageError, VolantError
from volant.sizes import show_size
from volant.whole_file import WholeFile

CHUNK_BYTES = 1 << 20
# More than a backup's last member and what fills it up.
TAIL_BYTES = 1 << 16


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


def _write_backup(reply: IO[bytes], file: str) -> tuple[list[str], int]:
    """Returns the notes for people and the size in bytes."""
    if file == "-":
        if sys.stdout.isatty():
            raise UsageError("cannot write a backup to a terminal", resolution="name a file, or use a pipe")
        return _write_checked(_read(reply), sys.stdout.fileno())
    with WholeFile(Path(file), mode=0o600) as target:
        written = _write_checked(_read(reply), target.descriptor)
        target.publish()
    return written


def _write_checked(chunks: Iterator[bytes], descriptor: int) -> tuple[list[str], int]:
    tail, size = b"", 0
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
        tail, size = (tail + chunk)[-TAIL_BYTES:], size + len(chunk)
    begin = tail.rfind(b"result.json\0")
    if begin < 0:
        raise VolantError("cannot take the backup: it was cut short", resolution="see the daemon's log")
    length = int(tail[begin + 124 : begin + 135], 8)  # the size's field of a tar header
    result = json.loads(tail[begin + 512 : begin + 512 + length])
    if result["error"]:
        raise VolantError(f"cannot take the backup: {result['error']}")
    return result["notes"], size


def save_backup(reply: IO[bytes], file: str) -> None:
    """As `write_reply`, of an archive that ends with a result: raises what the daemon says where it did not finish, and
    tells people its notes and its size."""
    notes, size = _write_backup(reply, file)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"backed up: {show_size(size)} in {'standard output' if file == '-' else file}", err=True)


@contextmanager
def open_upload(file: str) -> Iterator[Iterator[bytes]]:
    """The pieces of a file, or with "-" of standard input."""
    if file == "-":
        yield _read(sys.stdin.buffer)
        return
    if Path(file).is_dir():
        raise NotFound(f"cannot read {file}: it is a folder")
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        yield _read(stream)


def _read(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk
