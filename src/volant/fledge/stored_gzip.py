# SPDX-License-Identifier: Apache-2.0
"""A gzip file of stored (uncompressed) blocks: any tool reads it, and its bytes can still be changed in place.

RFC 1951 section 3.2.4: five bytes before at most 65535 bytes of content. So content has a place that can be
computed, which is how a manifest that comes first gets the checksum of the disk that comes after it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from isal import isal_zlib

_BLOCK_BYTES = 0xFFFF
_STRIDE = _BLOCK_BYTES + 5
_FLUSH_BYTES = 1 << 20
_READ_BLOCKS = 64
# RFC 1952: no name, no time, unknown system, so the same bytes everywhere.
GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_BLOCK_HEADER = struct.pack("<BHH", 0, _BLOCK_BYTES, 0)

# From here to there in a file, where blocks begin, and `add_to_sum` of the content between.
Summed = tuple[int, int, int]
START_SUM = 1


def add_to_sum(total: int, data: bytes | memoryview) -> int:
    """Two independent 32-bit sums: fast, and enough against damage."""
    crc, adler = isal_zlib.crc32(data, total >> 32), isal_zlib.adler32(data, total & 0xFFFFFFFF)
    return int(crc) << 32 | int(adler)


def _place(block: int) -> int:
    """Where a block begins in the file."""
    return len(GZIP_HEADER) + block * _STRIDE


class StoredGzip:
    """Writes to an empty, seekable descriptor. Content is appended, may be patched, and is finished once.

    What is appended is kept until some of it can be written in one call, and must not change before. A context
    manager: on leaving, nothing reads the descriptor any more. With `want_sum`, `summed` is known after `hash_from`.
    """

    def __init__(self, descriptor: int, *, want_sum: bool = False) -> None:
        self._descriptor = descriptor
        self._want_sum = want_sum
        self._parts: list[bytes | memoryview] = [GZIP_HEADER]
        self._pending_bytes = 0
        # Of the block that was begun last; a block is begun by its first byte.
        self._room = 0
        self._size = 0
        self.summed: Summed | None = None
        self._hash: _ContentHash | None = None

    @property
    def size(self) -> int:
        """Bytes of content so far."""
        return self._size

    def append(self, data: bytes | memoryview) -> None:
        length = len(data)
        self._size += length
        self._pending_bytes += length
        if length > self._room:
            data = memoryview(data)
            while len(data) > self._room:
                self._parts += (data[: self._room], _BLOCK_HEADER)
                data = data[self._room :]
                self._room = _BLOCK_BYTES
        self._parts.append(data)
        self._room -= len(data)
        if self._pending_bytes >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        write_all(self._descriptor, self._parts)
        self._parts = []
        self._pending_bytes = 0

    def patch(self, offset: int, data: bytes) -> None:
        """Other bytes in place of what was appended at `offset`."""
        assert offset + len(data) <= self._size, "only what was appended can be patched"
        self._flush()
        while data:
            block, inside = divmod(offset, _BLOCK_BYTES)
            take = min(len(data), _BLOCK_BYTES - inside)
            os.pwrite(self._descriptor, data[:take], _place(block) + 5 + inside)
            data = data[take:]
            offset += take

    def begin_hash(self, offset: int, end: int) -> None:
        """What lies between these offsets is not patched any more: its digest is made while more is appended."""
        self._flush()
        if self._hash is None:
            self._hash = _ContentHash(_BlockReader(self._descriptor, offset, self._want_sum))
        self._hash.go_to(end - end % _BLOCK_BYTES)

    def hash_from(self, offset: int) -> tuple[str, int]:
        """(SHA-256, CRC-32) of all content from `offset` to the end, as it is now; read back from the page cache.

        Meanwhile the kernel is made to write it to the disk, so that a later fsync has little to wait for. At least
        one byte must follow, since the last block does not stay as it is.
        """
        self.begin_hash(offset, self._size)
        assert self._hash is not None
        self._hash.go_to(self._size)
        os.fdatasync(self._descriptor)
        digest = self._hash.finish()
        if self._want_sum:
            self.summed = self._hash.reader.summed
        return digest, self._hash.reader.crc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hash is not None:
            self._hash.stop()

    def finish(self, crc: int) -> None:
        """Mark the last block as such and write the trailer. `crc` is that of all content."""
        if not self._size:
            self._parts.append(_BLOCK_HEADER)
        self._flush()
        last = max(0, self._size - 1) // _BLOCK_BYTES
        count = self._size - last * _BLOCK_BYTES
        os.pwrite(self._descriptor, struct.pack("<BHH", 1, count, count ^ 0xFFFF), _place(last))
        write_all(self._descriptor, [struct.pack("<II", crc, self._size & 0xFFFFFFFF)])


class _ContentHash:
    """The SHA-256 of what a reader reads, made by a thread of its own as far as it may go."""

    def __init__(self, reader: _BlockReader) -> None:
        self.reader = reader
        self._digest = hashlib.sha256()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(1, "hash")
        self._results: list[Future[None]] = []

    def go_to(self, end: int) -> None:
        self._results.append(self._pool.submit(self._hash_to, end))

    def _hash_to(self, end: int) -> None:
        while not self._stopping.is_set() and (content := self.reader.read(end)):
            self._digest.update(content)

    def finish(self) -> str:
        for result in self._results:
            result.result()
        return self._digest.hexdigest()

    def stop(self) -> None:
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


class _BlockReader:
    """Reads the content of blocks, some of them at a time, and keeps the sums of what was read."""

    def __init__(self, descriptor: int, offset: int, want_sum: bool) -> None:
        self._descriptor = descriptor
        self._position = offset
        self._want_sum = want_sum
        self._content = memoryview(bytearray(_BLOCK_BYTES * _READ_BLOCKS))
        self._headers = memoryview(bytearray(len(_BLOCK_HEADER) * _READ_BLOCKS))
        self._sum_start = self._sum_end = _place(-(-offset // _BLOCK_BYTES))
        self.total = START_SUM
        self.crc = 0

    @property
    def summed(self) -> Summed | None:
        """The blocks that were read from their headers to their ends."""
        return (self._sum_start, self._sum_end, self.total) if self._sum_end > self._sum_start else None

    def read(self, end: int) -> memoryview:
        """The content that follows, to `end` at most; good until the next call.

        Only what is read last may end inside a block. Raises OSError where blocks are not as they are written.
        """
        start = self._position
        first, skip = divmod(start, _BLOCK_BYTES)
        end = min(end, (first + _READ_BLOCKS) * _BLOCK_BYTES)
        if end <= start:
            return self._content[:0]
        content, headers = self._content[: end - start], self._headers
        views: list[memoryview] = []
        for place in range(-skip, end - start, _BLOCK_BYTES):
            if place >= 0:
                views.append(headers[: len(_BLOCK_HEADER)])
                headers = headers[len(_BLOCK_HEADER) :]
            views.append(content[max(0, place) : place + _BLOCK_BYTES])
        _read_views(self._descriptor, views, _place(first) + (len(_BLOCK_HEADER) + skip if skip else 0))
        found = bytes(self._headers[: len(self._headers) - len(headers)])
        if found != _BLOCK_HEADER * (len(found) // len(_BLOCK_HEADER)):
            raise OSError(errno.EIO, "blocks are not as they were written")
        self.crc = isal_zlib.crc32(content, self.crc)
        if self._want_sum:
            whole = end // _BLOCK_BYTES
            self.total = add_to_sum(
                self.total, content[-skip % _BLOCK_BYTES : max(0, whole * _BLOCK_BYTES - start)]
            )
            self._sum_end = max(self._sum_end, _place(whole))
        self._position = end
        return content


def _read_views(descriptor: int, views: list[memoryview], offset: int) -> None:
    """preadv until every view is full."""
    while views:
        count = os.preadv(descriptor, views, offset)
        if not count:
            raise OSError(errno.EIO, "the file is shorter than it was")
        offset += count
        while views and count >= len(views[0]):
            count -= len(views.pop(0))
        if count:
            views[0] = views[0][count:]


def sum_blocks(descriptor: int, start: int, end: int) -> int:
    """`add_to_sum` of the content of the blocks between two places. Raises OSError where there are no such blocks."""
    first, last = ((place - len(GZIP_HEADER)) // _STRIDE * _BLOCK_BYTES for place in (start, end))
    reader = _BlockReader(descriptor, first, want_sum=True)
    while reader.read(last):
        pass
    return reader.total


class StoredContent:
    """Reads the content of such a file at any place, without looking at what stands between its blocks."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> list[memoryview]:
        """`length` bytes of content at `offset`, by blocks; nothing where the file ends before. At most some MiB."""
        block, inside = divmod(offset, _BLOCK_BYTES)
        start, last = _place(block) + 5 + inside, (offset + length - 1) // _BLOCK_BYTES
        # With the headers between, at one go: new memory is filled by the kernel while other threads run.
        wanted = length + 5 * (last - block)
        whole = memoryview(os.pread(self._descriptor, wanted, start))
        if len(whole) < wanted:
            return []
        cuts = range(_BLOCK_BYTES - inside, wanted, _STRIDE)
        return [
            whole[begin:end]
            for begin, end in zip((0, *(cut + 5 for cut in cuts)), (*cuts, wanted), strict=True)
        ]


def write_all(descriptor: int, parts: list[bytes | memoryview]) -> None:
    """writev until everything is written."""
    while parts:
        written = os.writev(descriptor, parts[:512])
        index = 0
        while index < len(parts) and written >= len(parts[index]):
            written -= len(parts[index])
            index += 1
        parts = parts[index:]
        if written:
            parts[0] = memoryview(parts[0])[written:]
