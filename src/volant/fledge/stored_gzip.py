# SPDX-License-Identifier: Apache-2.0
"""A gzip file of stored (uncompressed) blocks: any tool reads it, and its bytes can still be changed in place.

RFC 1951 section 3.2.4: five bytes before at most 65535 bytes of content. So content has a place that can be
computed, which is how a manifest that comes first gets the checksum of the disk that comes after it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from concurrent.futures import ThreadPoolExecutor

from isal import isal_zlib

_BLOCK_BYTES = 0xFFFF
_STRIDE = _BLOCK_BYTES + 5
_FLUSH_BLOCKS = 16
# RFC 1952: no name, no time, unknown system, so the same bytes everywhere.
GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_BLOCK_HEADER = struct.pack("<BHH", 0, _BLOCK_BYTES, 0)


# Threads write over each other's bytes here, and nobody reads them.
_FORGOTTEN = memoryview(bytearray(5))

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
    """Writes to an empty, seekable descriptor. Content is appended, may be patched, and is finished once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = bytearray()
        self._flushed = 0
        self.summed: Summed | None = None
        os.write(descriptor, GZIP_HEADER)

    @property
    def size(self) -> int:
        """Bytes of content so far."""
        return self._flushed + len(self._pending)

    def append(self, data: bytes | memoryview) -> None:
        self._pending += data
        if len(self._pending) >= _FLUSH_BLOCKS * _BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        blocks = len(self._pending) // _BLOCK_BYTES
        with memoryview(self._pending) as view:
            parts: list[bytes | memoryview] = []
            for block in range(blocks):
                parts += (_BLOCK_HEADER, view[block * _BLOCK_BYTES : (block + 1) * _BLOCK_BYTES])
            write_all(self._descriptor, parts)
            for part in parts[1::2]:
                assert isinstance(part, memoryview)
                part.release()
        del self._pending[: blocks * _BLOCK_BYTES]
        self._flushed += blocks * _BLOCK_BYTES

    def patch(self, offset: int, data: bytes) -> None:
        """Other bytes in place of what was appended at `offset`."""
        while data:
            if offset >= self._flushed:
                start = offset - self._flushed
                assert start + len(data) <= len(self._pending), "only what was appended can be patched"
                self._pending[start : start + len(data)] = data
                return
            block, inside = divmod(offset, _BLOCK_BYTES)
            take = min(len(data), _BLOCK_BYTES - inside)
            os.pwrite(self._descriptor, data[:take], _place(block) + 5 + inside)
            data = data[take:]
            offset += take

    def hash_from(self, offset: int) -> tuple[str, int]:
        """(SHA-256, CRC-32) of all content from `offset` to the end, as it is now; read back from the page cache.

        `summed` is then the sum of what the file holds behind the block with that offset, as far as it is written.
        Meanwhile the kernel is made to write it to the disk, so that a later fsync has little to wait for.
        """
        with ThreadPoolExecutor(1, "write back") as pool:
            written_back = pool.submit(os.fdatasync, self._descriptor)
            hashed = self._hash_from(offset)
            written_back.result()
        return hashed

    def _hash_from(self, offset: int) -> tuple[str, int]:
        digest = hashlib.sha256()
        crc = 0
        buffer = memoryview(bytearray(_STRIDE * _FLUSH_BLOCKS))
        block = offset // _BLOCK_BYTES
        skip = offset % _BLOCK_BYTES
        summed = _place(block + 1)
        total = START_SUM
        while block * _BLOCK_BYTES < self._flushed:
            got = os.preadv(self._descriptor, [buffer], _place(block))
            whole = min(got // _STRIDE, self._flushed // _BLOCK_BYTES - block)
            for number in range(whole):
                content = buffer[number * _STRIDE + 5 + skip : (number + 1) * _STRIDE]
                skip = 0
                digest.update(content)
                crc = isal_zlib.crc32(content, crc)
            total = add_to_sum(total, buffer[max(0, summed - _place(block)) : whole * _STRIDE])
            block += whole
        if _place(block) > summed:
            self.summed = (summed, _place(block), total)
        tail = bytes(self._pending[max(0, offset - self._flushed) :])
        digest.update(tail)
        return digest.hexdigest(), isal_zlib.crc32(tail, crc)

    def finish(self, crc: int) -> None:
        """Write the last block and the trailer. `crc` is that of all content."""
        while len(self._pending) > _BLOCK_BYTES:
            self._flush()
        total = self.size
        count = len(self._pending)
        last = struct.pack("<BHH", 1, count, count ^ 0xFFFF) + self._pending
        write_all(self._descriptor, [last + struct.pack("<II", crc, total & 0xFFFFFFFF)])


class StoredContent:
    """Reads the content of such a file at any place, without looking at what stands between its blocks."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes of content at `offset`; nothing where the file ends before. At most some MiB."""
        block, inside = divmod(offset, _BLOCK_BYTES)
        content = memoryview(bytearray(length))
        views, position = [], 0
        while position < length:
            end = min(length, position + _BLOCK_BYTES - (inside if not position else 0))
            views += [content[position:end], _FORGOTTEN]
            position = end
        wanted = sum(map(len, views)) - len(_FORGOTTEN)
        got = os.preadv(self._descriptor, views[:-1], _place(block) + 5 + inside)
        return content if got == wanted else content[:0]


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
