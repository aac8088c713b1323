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
from concurrent.futures import Executor, ThreadPoolExecutor

from isal import isal_zlib

_BLOCK_BYTES = 0xFFFF
_STRIDE = _BLOCK_BYTES + 5
_FLUSH_BYTES = 1 << 20
_READ_BLOCKS = 32
# RFC 1952: no name, no time, unknown system, so the same bytes everywhere.
GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_BLOCK_HEADER = struct.pack("<BHH", 0, _BLOCK_BYTES, 0)

# From here to there in a file, and `add_to_sum` of all between.
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

    What is appended is kept until some of it can be written in one call, and must not change before.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parts: list[bytes | memoryview] = [GZIP_HEADER]
        self._pending_bytes = 0
        # Of the block that was begun last; a block is begun by its first byte.
        self._room = 0
        self._size = 0
        self.summed: Summed | None = None

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

    def hash_from(self, offset: int, *, want_sum: bool = False) -> tuple[str, int]:
        """(SHA-256, CRC-32) of all content from `offset` to the end, as it is now; read back from the page cache.

        With `want_sum`, `summed` is then the sum of what the file holds behind the block with that offset, up to the
        last block. Meanwhile the kernel is made to write it to the disk, so that a later fsync has little to wait for.
        """
        self._flush()
        with ThreadPoolExecutor(1, "write back") as pool, ThreadPoolExecutor(1, "sum") as helper:
            written_back = pool.submit(os.fdatasync, self._descriptor)
            hashed = self._hash_from(offset, want_sum, helper)
            written_back.result()
        return hashed

    def _hash_from(self, offset: int, want_sum: bool, helper: Executor) -> tuple[str, int]:
        """The digest is made here, all else by the helper: the next blocks are read and summed meanwhile."""
        digest = hashlib.sha256()
        reader = _BlockReader(self._descriptor, self._size, offset, want_sum)
        following = helper.submit(reader.read)
        while contents := following.result():
            following = helper.submit(reader.read)
            for content in contents:
                digest.update(content)
        self.summed = reader.summed
        return digest.hexdigest(), reader.crc

    def finish(self, crc: int) -> None:
        """Mark the last block as such and write the trailer. `crc` is that of all content."""
        if not self._size:
            self._parts.append(_BLOCK_HEADER)
        self._flush()
        last = max(0, self._size - 1) // _BLOCK_BYTES
        count = self._size - last * _BLOCK_BYTES
        os.pwrite(self._descriptor, struct.pack("<BHH", 1, count, count ^ 0xFFFF), _place(last))
        write_all(self._descriptor, [struct.pack("<II", crc, self._size & 0xFFFFFFFF)])


class _BlockReader:
    """Reads the content of blocks some at a time, and keeps the sums of what was read."""

    def __init__(self, descriptor: int, size: int, offset: int, want_sum: bool) -> None:
        self._descriptor = descriptor
        self._size = size
        self._position = offset
        self._want_sum = want_sum
        # The one is read into while the other's content is hashed.
        self._buffers = [memoryview(bytearray(_STRIDE * _READ_BLOCKS)) for _ in range(2)]
        self._sum_start = self._sum_end = _place(offset // _BLOCK_BYTES + 1)
        self._total = START_SUM
        self.crc = 0

    @property
    def summed(self) -> Summed | None:
        return (self._sum_start, self._sum_end, self._total) if self._sum_end > self._sum_start else None

    def read(self) -> list[memoryview]:
        """The content that follows, by blocks; nothing at the end. It is good until the call after the next."""
        first, skip = divmod(self._position, _BLOCK_BYTES)
        end = min(self._size, (first + _READ_BLOCKS) * _BLOCK_BYTES)
        if end <= self._position:
            return []
        self._buffers.reverse()
        last, inside = divmod(end - 1, _BLOCK_BYTES)
        start = _place(first)
        buffer = self._buffers[0][: _place(last) + 5 + inside + 1 - start]
        _read_full(self._descriptor, buffer, start)
        contents = [buffer[at + 5 : at + _STRIDE] for at in range(0, len(buffer), _STRIDE)]
        contents[0] = contents[0][skip:]
        for content in contents:
            self.crc = isal_zlib.crc32(content, self.crc)
        if self._want_sum:
            # The block that is the last of all so far may yet grow, and be marked as the last.
            sum_end = min(_place(last + 1), _place((self._size - 1) // _BLOCK_BYTES))
            self._total = add_to_sum(
                self._total, buffer[max(0, self._sum_end - start) : max(0, sum_end - start)]
            )
            self._sum_end = max(self._sum_end, sum_end)
        self._position = end
        return contents


def _read_full(descriptor: int, buffer: memoryview, offset: int) -> None:
    while buffer:
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            raise OSError(errno.EIO, "the file became shorter while it was written")
        buffer = buffer[count:]
        offset += count


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
