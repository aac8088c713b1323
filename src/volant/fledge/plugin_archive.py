# SPDX-License-Identifier: Apache-2.0
"""Step 7 of the line: disk + manifest → plugin.tar.gz, manifest first, deterministic, nothing compressed twice.

The disk is compressed inside (QCOW2), so the gzip around it only stores. The manifest's length is known before the
disk's checksum is: the checksum is filled in at the end, in place. No temporary copy of anything is made.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, Self

from isal import isal_zlib

from volant.contract.manifest import DiskFile, InitramfsFile, Manifest
from volant.filesystems.blocks import PlannedImage
from volant.fledge.qcow2 import Compression, write_qcow2
from volant.fledge.raw import DeflatedRaw
from volant.fledge.reuse import Reuse
from volant.fledge.stored_gzip import GZIP_HEADER, StoredGzip, Summed, write_all
from volant.progress import Monitor
from volant.tar_entries import END, make_entry, make_header, make_padding

MANIFEST_NAME = "manifest.json"
# 1980, the epoch of zip: old enough to say nothing, new enough for GNU tar not to warn about it.
TIMESTAMP = 315532800
_NO_CHECKSUM = "sha256:" + "0" * 64
_FIRST_FIELDS = (
    "schema_version", "name", "version", "description", "runtime", "enabled", "rootfs", "initramfs",
)  # fmt: skip
_make_header = partial(make_header, mode=0o644, mtime=TIMESTAMP)
_make_entry = partial(make_entry, mode=0o644, mtime=TIMESTAMP)
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class DiskOptions:
    """How the disk is written. `compression` counts for qcow2 only; `level` None: the compressor's usual one."""

    format: Literal["qcow2", "raw"] = "qcow2"
    compression: Compression | None = "zstd"
    level: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class WrittenPlugin:
    """The finished archive; `manifest` as it was written, with the payload's path and checksum.

    `summed`: what is known of the file's bytes without reading it again.
    """

    size_bytes: int
    payload_size_bytes: int
    manifest: Manifest
    summed: Summed | None = None


def write_disk_plugin(
    descriptor: int, image: PlannedImage, manifest: Manifest, options: DiskOptions, monitor: Monitor,
    reuse: Reuse | None = None,
) -> WrittenPlugin:  # fmt: skip
    """Write a plugin whose root is a disk into an empty file. `manifest` has no rootfs yet.

    `monitor` is told the bytes of content as they are written. `reuse` counts for qcow2 only.
    """
    name = "rootfs.qcow2" if options.format == "qcow2" else "rootfs.img"

    def describe(checksum: str) -> Manifest:
        disk = DiskFile(path=name, format=options.format, checksum=checksum, boot="kernel")
        return manifest.model_copy(update={"rootfs": disk})

    if options.format == "raw":
        raw = DeflatedRaw(image, level=options.level, threads=options.threads)
        return _write_raw(descriptor, name, image.size_bytes, raw, describe, monitor)
    with _Archive(descriptor, describe(_NO_CHECKSUM), want_sum=reuse is not None) as archive:
        archive.begin_payload(name)
        if reuse is not None:
            reuse.index.payload_offset = archive.payload_offset
        write_qcow2(
            image, archive, compression=options.compression, level=options.level, threads=options.threads,
            monitor=monitor, reuse=reuse,
        )  # fmt: skip
        written = describe(archive.end_payload())
        archive.finish(written)
    return WrittenPlugin(os.fstat(descriptor).st_size, archive.payload_size, written, archive.summed)


def _write_raw(
    descriptor: int, name: str, size: int, raw: DeflatedRaw, describe: Callable[[str], Manifest],
    monitor: Monitor,
) -> WrittenPlugin:  # fmt: skip
    """Two gzip members: what comes before the disk, of known length and written again at the end, and the disk."""

    def make_head(checksum: str) -> bytes:
        manifest = _make_entry(MANIFEST_NAME, make_manifest_text(describe(checksum)))
        return zlib.compress(manifest + _make_header(name, size), level=0, wbits=31)

    write_all(descriptor, [make_head(_NO_CHECKSUM), GZIP_HEADER])
    for part in raw.parts(monitor):
        write_all(descriptor, [part])
    tail = make_padding(size) + END
    end = zlib.compressobj(0, zlib.DEFLATED, -15)
    crc = isal_zlib.crc32(tail, raw.crc)
    trailer = struct.pack("<II", crc, (size + len(tail)) & 0xFFFFFFFF)
    write_all(descriptor, [end.compress(tail) + end.flush() + trailer])
    os.pwrite(descriptor, make_head(raw.checksum), 0)
    return WrittenPlugin(os.fstat(descriptor).st_size, size, describe(raw.checksum))


def write_initramfs_plugin(
    output: int, descriptor: int, manifest: Manifest, monitor: Monitor
) -> WrittenPlugin:
    """Write a plugin whose root is the cpio.gz in `descriptor` (from its start) into the empty file `output`.

    `manifest` has no initramfs yet.
    """
    name = "initramfs.cpio.gz"

    def describe(checksum: str) -> Manifest:
        return manifest.model_copy(update={"initramfs": InitramfsFile(path=name, checksum=checksum)})

    with _Archive(output, describe(_NO_CHECKSUM), want_sum=True) as archive:
        archive.begin_payload(name)
        offset = 0
        while part := os.pread(descriptor, _COPY_BYTES, offset):
            archive.append(part)
            offset += len(part)
            monitor.advance(len(part))
        written = describe(archive.end_payload())
        archive.finish(written)
    return WrittenPlugin(os.fstat(output).st_size, archive.payload_size, written, archive.summed)


def make_manifest_text(manifest: Manifest) -> bytes:
    """manifest.json as it stands in the archive: who it is first, then what it holds, then how it runs."""
    fields = manifest.model_dump(mode="json", exclude_none=True)
    ordered = {name: fields.pop(name) for name in _FIRST_FIELDS if name in fields} | fields
    return json.dumps(ordered, indent=2, ensure_ascii=False).encode() + b"\n"


class _Archive:
    """A tar of two entries in a StoredGzip; it is the payload's Output. A context manager."""

    def __init__(self, descriptor: int, manifest: Manifest, *, want_sum: bool) -> None:
        self._gzip = StoredGzip(descriptor, want_sum=want_sum)
        self._manifest_size = len(make_manifest_text(manifest))
        self._gzip.append(self._make_manifest_entry(manifest))
        self._name = ""
        self._header_offset = 0
        self.payload_offset = 0
        self.payload_size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gzip.__exit__(kind, error, trace)

    def _make_manifest_entry(self, manifest: Manifest) -> bytes:
        text = make_manifest_text(manifest)
        assert len(text) == self._manifest_size, "a checksum does not change the manifest's length"
        return _make_entry(MANIFEST_NAME, text)

    def begin_payload(self, name: str) -> None:
        self._name = name
        self._header_offset = self._gzip.size
        self._gzip.append(_make_header(name, 0))
        self.payload_offset = self._gzip.size

    @property
    def summed(self) -> Summed | None:
        return self._gzip.summed

    def append(self, data: bytes | memoryview) -> None:
        self._gzip.append(data)

    def patch(self, offset: int, data: bytes) -> None:
        self._gzip.patch(self.payload_offset + offset, data)

    def settle(self, end: int) -> None:
        self._gzip.begin_hash(self.payload_offset, self.payload_offset + end)

    def end_payload(self) -> str:
        """Returns the payload's checksum, "sha256:…"; `summed` is known then, if it is wanted."""
        self.payload_size = self._gzip.size - self.payload_offset
        digest, self._payload_crc = self._gzip.hash_from(self.payload_offset)
        return f"sha256:{digest}"

    def finish(self, manifest: Manifest) -> None:
        """Fill in what is known only now, and end the archive."""
        head = self._make_manifest_entry(manifest) + _make_header(self._name, self.payload_size)
        self._gzip.patch(0, head)
        tail = make_padding(self.payload_size) + END
        self._gzip.append(tail)
        crc = isal_zlib.crc32_combine(isal_zlib.crc32(head), self._payload_crc, self.payload_size)
        self._gzip.finish(isal_zlib.crc32(tail, crc))
