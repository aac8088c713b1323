# SPDX-License-Identifier: Apache-2.0
"""Step 6 of the line: a planned image as QCOW2 version 3 (QEMU: docs/interop/qcow2.txt).

Clusters of 64 KiB, each compressed by itself and put one after the other without alignment; what does not become
smaller is stored plain, what is zero not at all. Only the header is not written front to back.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, cast

import zstandard

from volant.filesystems.blocks import PlannedImage
from volant.fledge.clusters import Window, cut_windows, spread_deferred, transform_windows
from volant.fledge.reuse import CheckedWindow, Clusters, Reuse, WindowKeys, check_clusters
from volant.progress import Monitor

Compression = Literal["zstd", "zlib"]
CLUSTER_BITS = 16
CLUSTER_SIZE = 1 << CLUSTER_BITS
_DEFAULT_LEVELS = {"zstd": 3, "zlib": 6}
_ENTRIES = CLUSTER_SIZE // 8
_REFCOUNTS = CLUSTER_SIZE // 2
_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_SECTOR_SHIFT = 62 - (CLUSTER_BITS - 8)
_COMPRESSION_TYPE_BIT = 1 << 3
_HEADER_LENGTH = 112
# A cluster that saves less than a sector is stored as it is.
_MOST_COMPRESSED_BYTES = CLUSTER_SIZE - 512
# After so much of the content come the tables that the header leads to. What lies before them is settled then and
# hashed while the rest is compressed. In a rebuild the rest takes less time than the digest of all.
_TABLES_AFTER = 0.6
_ZERO_CLUSTER = bytes(CLUSTER_SIZE)
# Another version may compress otherwise: its clusters are not ours.
_VERSIONS = f"zstd {zstandard.ZSTD_VERSION} for {CLUSTER_SIZE} zlib {zlib.ZLIB_RUNTIME_VERSION}"
# QEMU inflates with a window of 4 KiB and without the zlib header.
_ZLIB_WINDOW_BITS = -12


class Output(Protocol):
    """Where a disk's bytes go: appended, but for the header."""

    def append(self, data: bytes | memoryview) -> None:
        """Further bytes."""

    def patch(self, offset: int, data: bytes) -> None:
        """Other bytes in place of what was appended at `offset`."""

    def settle(self, end: int) -> None:
        """What lies before `end` is not patched any more."""


class _Writer:
    """Positions, tables and reference counts of one file."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.position = 0
        self.tables: dict[int, array[int]] = {}
        self.refcounts = array("H")

    def append(self, data: bytes | memoryview) -> None:
        self._output.append(data)
        self.position += len(data)

    def patch(self, offset: int, data: bytes) -> None:
        self._output.patch(offset, data)

    def align(self) -> None:
        rest = -self.position % CLUSTER_SIZE
        if rest:
            self.append(_ZERO_CLUSTER[:rest])

    def count(self, first_byte: int, end: int) -> None:
        """One more reference to every host cluster of a stretch."""
        last = (end - 1) >> CLUSTER_BITS
        while len(self.refcounts) <= last:
            self.refcounts.append(0)
        for cluster in range(first_byte >> CLUSTER_BITS, last + 1):
            self.refcounts[cluster] += 1

    def append_clusters(self, data: bytes | memoryview) -> int:
        """Whole clusters of metadata; returns where they lie."""
        self.align()
        offset = self.position
        self.append(data)
        self.align()
        self.count(offset, self.position)
        return offset

    def add_window(self, offset: int, clusters: Clusters) -> None:
        """Map and append the clusters of the window at an offset of the disk."""
        numbers, sizes, parts = clusters
        if not numbers:
            return
        # A table covers whole windows.
        table_number, first = divmod(offset >> CLUSTER_BITS, _ENTRIES)
        table = self.tables.get(table_number)
        if table is None:
            table = self.tables[table_number] = array("Q", bytes(CLUSTER_SIZE))
        position = self.position
        for number, size in zip(numbers, sizes, strict=True):
            if size == CLUSTER_SIZE:
                position += -position % CLUSTER_SIZE
                entry = _COPIED | position
            else:
                sectors = ((position + size - 1) >> 9) - (position >> 9)
                entry = _COMPRESSED | sectors << _SECTOR_SHIFT | position
            table[first + number] = entry
            self.count(position, position + size)
            position += size
        has_plain = CLUSTER_SIZE in sizes
        for data in parts:
            if has_plain and len(data) == CLUSTER_SIZE:
                self.align()
            self.append(data)


# All clusters of a window in one call: threads give up and take back the interpreter once for all of them.
Compress = Callable[[list[memoryview]], list[bytes | memoryview]]


def _make_compress(compression: Compression | None, level: int) -> Compress:
    if compression == "zstd":
        parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=CLUSTER_SIZE)
        compressor = zstandard.ZstdCompressor(compression_params=parameters)

        def compress(clusters: list[memoryview]) -> list[bytes | memoryview]:
            packed = compressor.multi_compress_to_buffer(clusters, threads=1)  # type: ignore[arg-type]  # only reads them
            # Its segments have the buffer protocol, whatever its types say.
            return [memoryview(cast("bytes", packed[number])) for number in range(len(clusters))]

        return compress
    if compression == "zlib":

        def deflate(data: memoryview) -> bytes:
            compressor = zlib.compressobj(level, zlib.DEFLATED, _ZLIB_WINDOW_BITS, 9)
            return compressor.compress(data) + compressor.flush()

        return lambda clusters: [deflate(cluster) for cluster in clusters]
    return lambda clusters: [bytes(cluster) for cluster in clusters]


def _make_inflate(compression: Compression | None) -> Callable[[bytes | memoryview], bytes]:
    """The other way; what cannot be inflated is nothing."""
    if compression == "zstd":
        decompressor = zstandard.ZstdDecompressor()

        def decompress(data: bytes | memoryview) -> bytes:
            try:
                return decompressor.decompress(data, max_output_size=CLUSTER_SIZE)
            except zstandard.ZstdError:
                return b""

        return decompress

    def inflate(data: bytes | memoryview) -> bytes:
        try:
            return zlib.decompressobj(_ZLIB_WINDOW_BITS).decompress(data, CLUSTER_SIZE + 1)
        except zlib.error:
            return b""

    return inflate


def _find_clusters(window: Window) -> list[int]:
    """Clusters of a window that any part touches, ascending."""
    touched: list[int] = []
    end = 0
    for start, length, *_ in window.parts:
        first = max(end, start >> CLUSTER_BITS)
        end = max(end, (start + length + CLUSTER_SIZE - 1) >> CLUSTER_BITS)
        touched += range(first, end)
    return touched


class _Written(NamedTuple):
    """A window as it goes into the file, and its key where somebody wants to know it."""

    window: CheckedWindow
    key: bytes = b""


class _Packer:
    """Compresses the windows of one thread."""

    def __init__(self, compression: Compression | None, level: int) -> None:
        self._compress = _make_compress(compression, level)
        self._inflate = _make_inflate(compression)
        # A zero cluster is known by what it compresses to: nothing else becomes the same bytes.
        (self._zero,) = self._compress([memoryview(_ZERO_CLUSTER)])

    def pack(self, window: Window, buffer: memoryview, before: Clusters | None = None) -> Clusters:
        """The clusters of a window, those of nothing but zeros left out.

        `before`: clusters that were packed alike; those that inflate to what is to be packed are taken over.
        """
        window.fill(buffer)
        touched = _find_clusters(window)
        plain = {number: buffer[number << CLUSTER_BITS : (number + 1) << CLUSTER_BITS] for number in touched}
        # Copied for the comparison: views are compared byte by byte, seventy times slower.
        packed: dict[int, bytes | memoryview] = {
            number: data
            for number, data in (before.split() if before else ())
            if number in plain and len(data) < CLUSTER_SIZE and self._inflate(data) == bytes(plain[number])
        }
        made = [number for number in touched if number not in packed]
        if made:
            for number, data in zip(made, self._compress([plain[number] for number in made]), strict=True):
                if data != self._zero:
                    packed[number] = data if len(data) < _MOST_COMPRESSED_BYTES else bytes(plain[number])
        parts = [packed[number] for number in sorted(packed)]
        return Clusters(tuple(sorted(packed)), tuple(map(len, parts)), parts)


def write_qcow2(
    image: PlannedImage,
    output: Output,
    *,
    compression: Compression | None = "zstd",
    level: int | None = None,
    threads: int | None = None,
    monitor: Monitor | None = None,
    reuse: Reuse | None = None,
) -> None:
    """Append a whole QCOW2 file to `output`, which is empty. The bytes depend on image, compression and level only.

    With `reuse`, windows are taken from earlier disks where these have them, and noted for later ones.
    """
    chosen = _DEFAULT_LEVELS[compression] if compression and level is None else level or 0
    recipe = f"{compression} {chosen} {_VERSIONS}"
    keys = WindowKeys(recipe, image.origins) if reuse else None
    if reuse is not None:
        reuse.index.recipe = recipe

    def make_transform() -> Callable[[Window, memoryview], _Written]:
        packer = _Packer(compression, chosen)

        def transform(window: Window, buffer: memoryview) -> _Written:
            if reuse is None or keys is None:
                return _Written(CheckedWindow(packer.pack(window, buffer), 0))
            key = keys.make_key(window)
            found = reuse.fetch(key, CLUSTER_SIZE)
            if found is None:
                clusters = packer.pack(window, buffer, reuse.fetch_at(window.offset, CLUSTER_SIZE))
                found = CheckedWindow(clusters, check_clusters(key, clusters))
            return _Written(found, key)

        return transform

    writer = _Writer(output)
    writer.append_clusters(_ZERO_CLUSTER)
    windows = spread_deferred(cut_windows(image))
    tables: _Tables | None = None
    written_bytes = 0
    for window, written in transform_windows(windows, make_transform, threads):
        if reuse is not None:
            reuse.index.add(window.offset, written.key, writer.position, written.window)
        writer.add_window(window.offset, written.window.clusters)
        length = sum(part[1] for part in window.parts)
        written_bytes += length
        if monitor is not None:
            monitor.advance(length)
        if tables is None and written_bytes >= image.used_bytes * _TABLES_AFTER:
            tables = _place_tables(writer, image.size_bytes, compression)
            output.settle(tables.first_level_offset)
    _finish(writer, tables or _place_tables(writer, image.size_bytes, compression))


class _Tables(NamedTuple):
    """Where the tables lie that the header leads to."""

    first_level_offset: int
    refcounts_offset: int


def _big_endian(words: array[int]) -> bytes:
    swapped = array(words.typecode, words)
    swapped.byteswap()
    return swapped.tobytes()


def _place_tables(writer: _Writer, size_bytes: int, compression: Compression | None) -> _Tables:
    """Make room for the two tables that the header leads to, and write the header."""
    first_level_entries = -(-size_bytes // (CLUSTER_SIZE * _ENTRIES))
    first_level_offset = writer.append_clusters(bytes(8 * first_level_entries))
    # As if every cluster were plain, with a table for a few of them.
    most_blocks = -(-(2 * size_bytes // CLUSTER_SIZE + _ENTRIES) // _REFCOUNTS)
    refcounts_offset = writer.append_clusters(bytes(8 * most_blocks))
    zstd = compression == "zstd"
    writer.patch(0, struct.pack(
        ">4sIQIIQIIQQIIQQQQIIB7x", b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, size_bytes, 0, first_level_entries,
        first_level_offset, refcounts_offset, (writer.position - refcounts_offset) // CLUSTER_SIZE, 0, 0,
        _COMPRESSION_TYPE_BIT if zstd else 0, 0, 0, 4, _HEADER_LENGTH, 1 if zstd else 0,
    ))  # fmt: skip
    return _Tables(first_level_offset, refcounts_offset)


def _finish(writer: _Writer, tables: _Tables) -> None:
    """Write the lower tables after the data, and fill in the upper ones."""
    first_level = array("Q", bytes(8 * (max(writer.tables, default=-1) + 1)))
    for number in sorted(writer.tables):
        first_level[number] = writer.append_clusters(_big_endian(writer.tables[number])) | _COPIED
    writer.patch(tables.first_level_offset, _big_endian(first_level))
    # Blocks of reference counts count themselves.
    blocks = -(-(writer.position >> CLUSTER_BITS) // (_REFCOUNTS - 1))
    first, end = writer.position, writer.position + blocks * CLUSTER_SIZE
    writer.count(first, end)
    writer.append(_big_endian(writer.refcounts).ljust(end - first, b"\0"))
    writer.patch(tables.refcounts_offset, _big_endian(array("Q", range(first, end, CLUSTER_SIZE))))
