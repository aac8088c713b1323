# SPDX-License-Identifier: Apache-2.0
"""A backup as bytes: a tar archive that is written and read in one go.

`backup.json` comes first and says what follows; then the files by their names below the state folder; `digests` as
sha256sum(1) writes them; and `result.json`, without which an archive was cut short, and which says why where the daemon
knew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tarfile
import time
from collections.abc import AsyncIterator, Container, Iterator
from pathlib import Path
from typing import IO, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volant.errors import InvalidInput, StorageFull
from volant.tar_entries import END, make_entry, make_header, make_padding

FIRST, DIGESTS, LAST = "backup.json", "digests", "result.json"
CHUNK_BYTES = 1 << 20
MOST_JSON_BYTES = 64 << 20
_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*){0,3}"
)


class BackupHead(BaseModel):
    """`state_dir` is what absolute paths inside begin with."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    format: Literal[1] = 1
    version: str
    taken_at: str
    state_dir: str
    with_plugins: bool
    with_memory: bool


class BackupResult(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True)

    error: str = ""
    notes: list[str] = Field(default_factory=list)


_Model = TypeVar("_Model", bound=BaseModel)


class ArchiveWriter:
    """Members as pieces of bytes; who sends them sets the pace."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def write_document(self, name: str, content: bytes) -> bytes:
        return make_entry(name, content, mtime=int(time.time()))

    async def write_file(self, name: str, path: Path) -> AsyncIterator[bytes]:
        """A file that does not change meanwhile."""
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            yield make_header(name, size, mtime=int(time.time()))
            left = size
            while left:
                chunk = await asyncio.to_thread(stream.read, min(CHUNK_BYTES, left))
                if not chunk:
                    raise InvalidInput(f"cannot back up {path}: it became shorter meanwhile")
                await asyncio.to_thread(digest.update, chunk)
                left -= len(chunk)
                yield chunk
        yield make_padding(size)
        self._digests[name] = digest.hexdigest()

    def write_end(self, result: BackupResult) -> bytes:
        lines = "".join(f"{digest}  {name}\n" for name, digest in self._digests.items())
        content = self.write_document(DIGESTS, lines.encode())
        content += self.write_document(LAST, result.model_dump_json().encode())
        return content + END


def unpack(stream: IO[bytes], folder: Path, places: Container[str], first: str, kind: type[_Model]) -> _Model:
    """Unpack a backup into `folder`; blocking. It begins with a document `first` of that kind; `places` are the names
    that may stand at the top of the rest.

    InvalidInput where it is none, was changed or cut short; StorageFull where there is no room.
    """
    try:
        return _unpack(stream, folder, places, first, kind)
    except (tarfile.TarError, ValueError) as error:
        raise _refuse(f"it is no tar archive, or was cut short ({error})") from error


def _unpack(
    stream: IO[bytes], folder: Path, places: Container[str], first: str, kind: type[_Model]
) -> _Model:
    head: _Model | None = None
    found: dict[str, str] = {}
    told: dict[str, str] | None = None
    result: BackupResult | None = None
    for member, content in _read_members(stream):
        name = member.name
        if head is None:
            if name != first:
                raise _refuse("it does not begin as one")
            head = _read_model(kind, content, member.size)
        elif name == DIGESTS and told is None:
            told = _read_digests(_read_all(content, member.size).decode("utf-8", "replace"))
        elif name == LAST:
            result = _read_model(BackupResult, content, member.size)
        elif told is None and name not in found and _NAME.fullmatch(name) and name.split("/")[0] in places:
            found[name] = _write_file(content, member.size, folder / name)
        else:
            raise _refuse(f"it holds {name!r}")
    if head is None or result is None or told is None:
        raise _refuse("it was cut short")
    if result.error:
        raise _refuse(f"it was not finished: {result.error}")
    if changed := sorted(name for name in {*found, *told} if found.get(name) != told.get(name)):
        raise _refuse(
            "what it holds is not what was written", [f"changed or missing: {name}" for name in changed[:20]]
        )
    return head


def _read_members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                raise _refuse(f"{member.name!r} is no plain file")
            yield member, content


def _write_file(content: IO[bytes], size: int, place: Path) -> str:
    digest = hashlib.sha256()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as target:
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
                size -= len(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise StorageFull(
            f"cannot unpack the backup: {error.strerror or error}",
            resolution="free some space in the state folder",
        ) from error
    if size:
        raise _refuse("it was cut short")
    return digest.hexdigest()


def _read_all(content: IO[bytes], size: int) -> bytes:
    if size > MOST_JSON_BYTES:
        raise _refuse("one of its documents is too large")
    return content.read()


def _read_model(kind: type[_Model], content: IO[bytes], size: int) -> _Model:
    try:
        return kind.model_validate_json(_read_all(content, size))
    except ValidationError as error:
        raise _refuse("this volant does not know its form", [str(error)]) from error


def _read_digests(text: str) -> dict[str, str]:
    return {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}


def _refuse(why: str, details: list[str] | None = None) -> InvalidInput:
    return InvalidInput(
        f"cannot restore the backup: {why}",
        details=details or [],
        resolution="copy the backup again, or use another one",
    )
