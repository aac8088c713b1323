# SPDX-License-Identifier: Apache-2.0
"""What a disk image is, from its own bytes: format, virtual size, and whether it boots by itself.

Reads QCOW2 without qemu-img, so that a hostile image is refused before any tool opens it: backing files,
external data files and encryption would let it reach beyond itself (QEMU: docs/interop/qcow2.txt).
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from volant.errors import InvalidInput

DiskFormat = Literal["qcow2", "raw"]
Boot = Literal["kernel", "firmware"]

QCOW2_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_HEADER_V3 = struct.Struct(">QQQII")
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED = 1, 2, 4, 8, 16
_OFFSET_MASK = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
_ZERO = 1
_MOST_VIRTUAL_BYTES = 1 << 46
# QEMU's own limits (block/qcow2.h): it refuses to open what is beyond them.
_MOST_L1_BYTES = 32 << 20
_MOST_REFCOUNT_TABLE_BYTES = 8 << 20
_MOST_REFCOUNT_ORDER = 6
_LEAST_EXTENDED_CLUSTER_BITS = 14
_BIOS_CODE_BYTES = 440
# Header extensions (docs/interop/qcow2.txt) that QEMU acts on.
_END_OF_EXTENSIONS = 0
_KNOWN_EXTENSIONS = {
    0xE2792ACA: "backing format",
    0x0537BE77: "encryption",
    0x23852875: "bitmaps",
    0x44415441: "data file",
}


@dataclass(frozen=True)
class DiskImage:
    """What was found out. Sizes in bytes."""

    format: DiskFormat
    virtual_size_bytes: int
    boot: Boot


def probe_disk(descriptor: int, length: int) -> DiskImage:
    """Look at a disk image of `length` bytes. Raises InvalidInput for a QCOW2 that is broken or reaches outside."""
    if os.pread(descriptor, 4, 0) == QCOW2_MAGIC:
        image = _Qcow2(descriptor, length)
        return DiskImage("qcow2", image.virtual_size, _find_boot(image.read(0, 4096)))
    return DiskImage("raw", length, _find_boot(os.pread(descriptor, 4096, 0)))


def has_bios_code(descriptor: int, length: int) -> bool:
    """Whether the BIOS finds a program in the first sector, before the signature and the partitions."""
    if os.pread(descriptor, 4, 0) == QCOW2_MAGIC:
        return any(_Qcow2(descriptor, length).read(0, _BIOS_CODE_BYTES))
    return any(os.pread(descriptor, _BIOS_CODE_BYTES, 0))


def _find_boot(start: bytes) -> Boot:
    """`firmware` where there is a partition table or a boot sector; a bare file system, and all else, is `kernel`."""
    start = start.ljust(4096, b"\0")
    if start[512:520] == b"EFI PART":
        return "firmware"
    is_extended_fs = start[1024 + 56 : 1024 + 58] == b"\x53\xef"
    is_boot_sector = start[510:512] == b"\x55\xaa"
    return "firmware" if is_boot_sector and not is_extended_fs else "kernel"


class _Qcow2:
    """Enough of QCOW2 to read a few bytes of the guest's disk."""

    def __init__(self, descriptor: int, length: int) -> None:
        self._descriptor = descriptor
        self._length = length
        raw = self._read_file(0, _HEADER.size)
        (
            _, version, backing, backing_length, self._bits, self.virtual_size, crypt, self._entries, self._table,
            refcounts, refcount_clusters, snapshots, snapshot_table,
        ) = _HEADER.unpack(raw)  # fmt: skip
        if version not in (2, 3):
            raise _refuse(f"its version is {version}")
        if backing or backing_length:
            raise _refuse("it has a backing file", _FLATTEN)
        if crypt:
            raise _refuse("it is encrypted")
        if snapshots:
            raise _refuse("it holds snapshots", _FLATTEN)
        if not 9 <= self._bits <= 21:
            raise _refuse(f"its cluster size is 2^{self._bits}")
        if snapshot_table % (1 << self._bits) or snapshot_table > self._length:
            raise _refuse("its snapshots are nowhere")
        if not 0 < self.virtual_size <= _MOST_VIRTUAL_BYTES:
            raise _refuse(f"its virtual size is {self.virtual_size} bytes")
        self._entry_bytes = 8
        self._zstd = False
        header_length = self._read_version_3() if version == 3 else _HEADER.size
        self._check_extensions(header_length)
        self._check_tables(refcounts, refcount_clusters)

    def _read_version_3(self) -> int:
        """What version 3 adds; returns the length of the header."""
        features, _, _, order, header_length = _HEADER_V3.unpack(self._read_file(72, _HEADER_V3.size))
        self._check_features(features)
        if not 104 <= header_length <= 1 << self._bits or header_length % 8:
            raise _refuse(f"its header is {header_length} bytes long")
        if order > _MOST_REFCOUNT_ORDER:
            raise _refuse(f"its reference counts have 2^{order} bits")
        if features & _EXTENDED:
            if self._bits < _LEAST_EXTENDED_CLUSTER_BITS:
                raise _refuse(f"its cluster size is 2^{self._bits} with extended entries")
            self._entry_bytes = 16
        kind = self._read_file(104, 1)[0] if header_length > 104 else 0
        if kind != (1 if features & _COMPRESSION else 0):
            raise _refuse(f"its compression type is {kind}")
        self._zstd = kind == 1
        return int(header_length)

    def _check_extensions(self, position: int) -> None:
        end = 1 << self._bits
        while position < end:
            if position + 8 > end:
                raise _refuse("an extension of its header is cut short")
            kind, length = struct.unpack(">II", self._read_file(position, 8))
            position += 8
            if length > end - position:
                raise _refuse("an extension of its header is too long")
            if kind == _END_OF_EXTENSIONS:
                return
            if kind in _KNOWN_EXTENSIONS:
                raise _refuse(f"its header has an extension for {_KNOWN_EXTENSIONS[kind]}", _FLATTEN)
            position += length + 7 & ~7

    def _check_tables(self, refcounts: int, refcount_clusters: int) -> None:
        """Both tables where QEMU would look for them, and the first long enough for the whole disk."""
        cluster = 1 << self._bits
        if refcounts % cluster or not 0 < refcounts < self._length:
            raise _refuse("its reference counts are nowhere")
        if not 0 < refcount_clusters << self._bits <= _MOST_REFCOUNT_TABLE_BYTES:
            raise _refuse(f"its table of reference counts has {refcount_clusters} clusters")
        per_entry = cluster * (cluster // self._entry_bytes)
        needed = -(-self.virtual_size // per_entry)
        if not needed <= self._entries <= _MOST_L1_BYTES // 8:
            raise _refuse(f"its first table has {self._entries} entries")
        if self._table % cluster or not 0 < self._table <= self._length - self._entries * 8:
            raise _refuse("its first table is nowhere")

    def _check_features(self, features: int) -> None:
        if features & _DATA_FILE:
            raise _refuse("its data are in another file")
        if features & _CORRUPT:
            raise _refuse("it is marked as corrupt", "repair it: qemu-img check -r all rootfs.qcow2")
        if features & ~(_DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED):
            raise _refuse(f"it needs features that are not known here ({features:#x})")

    def _read_file(self, offset: int, length: int) -> bytes:
        if offset + length > self._length:
            raise _refuse("it is cut short")
        data = os.pread(self._descriptor, length, offset)
        if len(data) != length:
            raise _refuse("it is cut short")
        return data

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the guest's disk, inside one cluster or across small ones."""
        parts: list[bytes] = []
        length = max(0, min(length, self.virtual_size - offset))
        while length:
            inside = offset & ((1 << self._bits) - 1)
            take = min(length, (1 << self._bits) - inside)
            parts.append(self._read_cluster(offset >> self._bits, inside, take))
            offset += take
            length -= take
        return b"".join(parts)

    def _read_cluster(self, cluster: int, inside: int, length: int) -> bytes:
        per_table = (1 << self._bits) // self._entry_bytes
        number, index = divmod(cluster, per_table)
        if number >= self._entries:
            raise _refuse("its tables are too short")
        first = int.from_bytes(self._read_file(self._table + number * 8, 8), "big") & _OFFSET_MASK
        if not first:
            return bytes(length)
        entry = int.from_bytes(self._read_file(first + index * self._entry_bytes, 8), "big")
        if entry & _COMPRESSED:
            return self._inflate(entry)[inside : inside + length].ljust(length, b"\0")
        host = entry & _OFFSET_MASK
        if not host or entry & _ZERO:
            return bytes(length)
        return self._read_file(host + inside, length)

    def _inflate(self, entry: int) -> bytes:
        shift = 62 - (self._bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = (entry >> shift & ((1 << (self._bits - 8)) - 1)) + 1
        data = os.pread(self._descriptor, sectors * 512 - (offset & 511), offset)
        size = 1 << self._bits
        try:
            if not self._zstd:
                return zlib.decompressobj(-15).decompress(data, size)
            import zstandard  # only where it is needed: its import costs every start otherwise

            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
                return reader.read(size)
        except Exception as error:
            raise _refuse(f"a compressed cluster cannot be read ({error})") from error


_FLATTEN = "flatten it: qemu-img convert -O qcow2 -c old.qcow2 rootfs.qcow2"


def _refuse(why: str, resolution: str = "") -> InvalidInput:
    return InvalidInput(f"cannot use the QCOW2 disk: {why}", resolution=resolution)


def open_qcow2(descriptor: int, length: int) -> _Qcow2:
    """A QCOW2 image whose content can be read (`read`, `virtual_size`). Raises InvalidInput as `probe_disk` does."""
    return _Qcow2(descriptor, length)
