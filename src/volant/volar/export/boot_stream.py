# SPDX-License-Identifier: Apache-2.0
"""What the daemon sends to boot something elsewhere, as it arrives: nothing is kept that is not written at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from volant.contract.boot_files import DOCUMENT, BootDocument
from volant.contract.tar_stream import Entry, TarStream
from volant.errors import InvalidInput

CHUNK_BYTES = 1 << 20
MOST_DOCUMENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class BootFile:
    """Its content is read before the next one is asked for."""

    name: str
    size_bytes: int
    content: Iterator[bytes]


def read_boot_files(reply: IO[bytes]) -> tuple[BootDocument, Iterator[BootFile]]:
    """The document, and the files that follow it. Raises InvalidInput for what no daemon of ours sends."""
    archive = TarStream(cast(BinaryIO, reply))
    entries = archive.entries()
    first = next(entries, None)
    if first is None or first.name != DOCUMENT or first.size > MOST_DOCUMENT_BYTES:
        raise InvalidInput(f"cannot export: what the daemon sent does not begin with {DOCUMENT}")
    document: BootDocument = json.loads(b"".join(_read(archive)))
    return document, _list_files(archive, entries)


def _list_files(archive: TarStream, entries: Iterator[Entry]) -> Iterator[BootFile]:
    for entry in entries:
        yield BootFile(entry.name, entry.size, _read(archive))


def _read(archive: TarStream) -> Iterator[bytes]:
    while chunk := archive.read(CHUNK_BYTES):
        yield chunk
