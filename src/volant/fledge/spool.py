# SPDX-License-Identifier: Apache-2.0
"""Compressed layers are inflated once, in parallel, into unlinked temporary files.

The file system writer asks for content in the order of the disk, not of the layer, so it needs random access. An
unlinked file gives that from the page cache, vanishes with the process however it ends, and keeps memory bounded.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from volant.errors import Interrupted, InvalidInput, NotPermitted, StorageFull
from volant.fledge.digests import damaged, parse_digest

CHUNK_BYTES = 1 << 20
# A zstd stream may ask for any window; this much covers `zstd --long` and keeps a hostile one from the memory.
ZSTD_WINDOW_BYTES = 1 << 27
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one image may use at most. `entries` counts tar entries and pieces of sparse files of all layers."""

    spool_bytes: int = 256 << 30
    entries: int = 8_000_000


def find_spool_folder() -> Path:
    """Where large temporary files go: TMPDIR, else /var/tmp, because /tmp is memory on many machines."""
    for folder in (os.environ.get("TMPDIR"), "/var/tmp"):  # noqa: S108  # files in it are unlinked or mkdtemp's
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise NotPermitted(
            "cannot make temporary files: neither TMPDIR, /var/tmp nor /tmp can be written",
            resolution="set TMPDIR to a folder that can, with room for the image",
        ) from error


def find_compression(descriptor: int, offset: int, length: int, what: str) -> str:
    """plain, gzip or zstd, by the first bytes (as every runtime does: media types lie). Raises InvalidInput."""
    start = os.pread(descriptor, min(8, length), offset)
    if start.startswith(_GZIP_MAGIC):
        return "gzip"
    # zstd:chunked and seekable streams may begin with a skippable frame, 184D2A50 to 184D2A5F.
    if start.startswith(_ZSTD_MAGIC) or (start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50):
        return "zstd"
    for magic, name in _UNSUPPORTED.items():
        if start.startswith(magic):
            raise InvalidInput(
                f"cannot read {what}: it is compressed with {name}",
                resolution="save the image with gzip, zstd or no compression",
            )
    return "plain"


class SpoolBudget:
    """How many bytes all spools of one image may still take, for the threads that fill them."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._left_bytes = limit_bytes
        self._lock = threading.Lock()
        self._is_stopped = False

    def stop(self) -> None:
        """Let every thread that still inflates end at its next chunk: nobody waits for its result any more."""
        self._is_stopped = True

    def take(self, count: int, what: str) -> None:
        if self._is_stopped:
            raise Interrupted(f"cannot inflate {what}: the build ended before")
        with self._lock:
            self._left_bytes -= count
        if self._left_bytes < 0:
            raise InvalidInput(
                f"cannot inflate {what}: the image's layers grow beyond {self._limit_bytes >> 20} MiB",
                resolution="if you trust the image, allow more spool space",
            )


class _RangeReader(RawIOBase):
    """A byte range of a descriptor as a file of its own, without a shared position."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self._descriptor = descriptor
        self._position = offset
        self._end = offset + length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed says WriteableBuffer
        view = memoryview(buffer)[: max(0, self._end - self._position)]
        count = os.preadv(self._descriptor, [view], self._position) if view else 0
        self._position += count
        return count


class _Inflated(Protocol):
    def readinto(self, buffer: memoryview) -> int | None: ...


@contextmanager
def _open_inflated(compression: str, source: _RangeReader) -> Iterator[_Inflated]:
    if compression == "gzip":
        from isal import igzip

        with igzip.IGzipFile(fileobj=cast("BinaryIO", source), mode="rb") as stream:  # type: ignore[no-untyped-call]  # isal is untyped
            yield stream
    else:
        import zstandard

        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        with closing(
            decompressor.stream_reader(cast("BinaryIO", source), CHUNK_BYTES, read_across_frames=True)
        ) as stream:
            yield cast("BufferedIOBase", stream)


def _read_full(stream: _Inflated, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer):
        count = stream.readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled


def inflate(
    what: str, compression: str, descriptor: int, offset: int, length: int, *, diff_id: str | None,
    spool: int, budget: SpoolBudget,
) -> int:  # fmt: skip
    """Inflate a byte range into the file `spool` and return the inflated size.

    The digest is computed on a second thread while the next chunk is inflated; `diff_id` None checks nothing.
    Chunks of zeros become holes, so a bomb of zeros costs no disk. Raises InvalidInput for a damaged stream, a
    wrong digest or a layer beyond the budget, and StorageFull.
    """
    from isal import igzip_lib
    from zstandard import ZstdError

    isal_error = cast("type[Exception]", igzip_lib.IsalError)  # its stub says it is an instance
    algorithm, value = parse_digest(diff_id) if diff_id else ("sha256", "")
    digest = hashlib.new(algorithm)
    buffers = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(2)]
    zeros = bytes(CHUNK_BYTES)
    position = 0
    hashing: Future[None] | None = None
    try:
        with (
            _open_inflated(compression, _RangeReader(descriptor, offset, length)) as stream,
            ThreadPoolExecutor(1, "diff-id") as hasher,
        ):
            while True:
                # The other buffer may still be hashed; this one was waited for below.
                buffers.reverse()
                count = _read_full(stream, buffers[0])
                if hashing is not None:
                    hashing.result()
                if not count:
                    break
                chunk = buffers[0][:count]
                if diff_id:
                    hashing = hasher.submit(digest.update, chunk)
                budget.take(count, what)
                # Comparing a view goes byte by byte.
                if not zeros.startswith(chunk):
                    _write_at(spool, chunk, position)
                position += count
    except (isal_error, ZstdError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StorageFull(
                f"cannot inflate {what}: {error.strerror}",
                resolution="free space there, or point TMPDIR at a larger file system",
            ) from error
        raise InvalidInput(
            f"cannot inflate {what}: the {compression} stream is damaged after {position} inflated bytes",
            details=str(error),
            resolution="save or fetch the image again",
        ) from error
    if diff_id and digest.hexdigest() != value:
        raise damaged(what, diff_id, f"{algorithm}:{digest.hexdigest()}")
    os.ftruncate(spool, position)
    return position


def _write_at(descriptor: int, chunk: memoryview, position: int) -> None:
    while chunk:
        count = os.pwrite(descriptor, chunk, position)
        chunk = chunk[count:]
        position += count


def open_spool(stack: ExitStack) -> int:
    """An unlinked temporary file of ours alone; the stack closes it."""
    return stack.enter_context(tempfile.TemporaryFile(dir=find_spool_folder())).fileno()
