# SPDX-License-Identifier: Apache-2.0
"""Reads plugin.tar.gz: ours, and those that people made by hand with tar. Every byte of it may be hostile.

The manifest may come before or after the disk, and need say no more than name and version: which file is the disk,
its format, its checksum and how it boots are found out. The one large file goes to the caller's descriptor while it
is hashed; whatever else the manifest needs is small and stays in memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from pydantic import ValidationError

from volant.contract.disk_probe import QCOW2_MAGIC, DiskImage, probe_disk
from volant.contract.manifest import DiskFile, InitramfsFile, Manifest
from volant.contract.tar_stream import Entry, TarStream, refuse
from volant.errors import InvalidInput, StorageFull

MANIFEST_NAME = "manifest.json"
_DISK_SUFFIXES = (".qcow2", ".qcow", ".img", ".raw")
_INITRAMFS_SUFFIXES = (".cpio", ".cpio.gz", ".cpio.zst", ".cpio.xz", ".cpio.lz4")
# cpio (newc, crc), gzip, xz, zstd, lz4 (legacy and frame): what a kernel unpacks.
_INITRAMFS_MAGICS = (
    b"070701", b"070702", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18",
)  # fmt: skip
_COPY_BYTES = 1 << 18
_HOLE_BYTES = 1 << 16
_ZEROS = bytes(_HOLE_BYTES)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Limits:
    """Bounds on what an archive may ask of its reader."""

    payload_bytes: int = 256 << 30
    small_file_bytes: int = 4 << 20
    small_files_bytes: int = 16 << 20
    entries: int = 256


@dataclass(frozen=True)
class PluginContent:
    """What an archive holds. `manifest` is complete: path, format, checksum and boot of the payload are filled in.

    `files` are the small further files (cloud-init documents, an OpenAPI text) by their path in the archive. Where
    the manifest gives its payload by URL, `payload_name` is empty and `checksum` what the manifest says, or "".
    """

    manifest: Manifest
    kind: Literal["rootfs", "initramfs"]
    payload_name: str
    payload_size_bytes: int
    virtual_size_bytes: int
    checksum: str
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class _Payload:
    name: str
    size: int
    checksum: str
    start: bytes


def read_plugin_archive(
    stream: BinaryIO,
    payload_descriptor: int | None = None,
    *,
    limits: Limits | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> PluginContent:
    """Read a whole archive, writing its disk or initramfs to `payload_descriptor`, an empty file (None: only hash it).

    `on_bytes` is told how many compressed bytes have been read since the last call. Without a descriptor `boot` stays
    as the manifest has it. Raises InvalidInput for anything that is not a sound plugin (StorageFull where the
    descriptor's disk is full); the descriptor's content is then garbage.
    """
    limits = limits or Limits()
    archive = TarStream(stream, on_bytes)
    manifest: Manifest | None = None
    payload: _Payload | None = None
    files: dict[str, bytes] = {}
    seen: set[str] = set()
    for entry in archive.entries():
        if entry.name.rpartition("/")[2].startswith("._"):
            continue  # what macOS adds to every file
        if entry.name in seen:
            raise refuse(f"{entry.name!r} is in it twice")
        seen.add(entry.name)
        if len(seen) > limits.entries:
            raise refuse(f"it has more than {limits.entries} files")
        if entry.name == MANIFEST_NAME:
            manifest = parse_manifest(_read_small(archive, entry, limits))
        elif _is_payload(entry, manifest, payload, limits):
            if payload is not None:
                raise refuse(
                    f"both {payload.name!r} and {entry.name!r} may be its disk: put manifest.json first"
                )
            payload = _copy_payload(archive, entry, payload_descriptor, limits)
        else:
            files[entry.name] = _read_small(archive, entry, limits)
            if sum(map(len, files.values())) > limits.small_files_bytes:
                raise refuse(f"its small files are more than {limits.small_files_bytes >> 20} MiB together")
    if manifest is None:
        raise refuse("it has no manifest.json", "pack both: tar czf plugin.tar.gz manifest.json rootfs.qcow2")
    return _conclude(manifest, payload, files, payload_descriptor)


def read_payload_elsewhere(
    content: PluginContent, read: Callable[[int], bytes], descriptor: int, *, limits: Limits | None = None
) -> PluginContent:
    """Complete a plugin whose disk or initramfs is at a URL, by what that answers with, up to so many bytes a call.

    It is the plugin's own from then on. Raises as `read_plugin_archive`.
    """
    declared = content.manifest.rootfs or content.manifest.initramfs
    assert declared is not None and declared.url is not None, "nothing is elsewhere"
    payload = _copy(declared.url, read, descriptor, limits or Limits())
    is_qcow2 = payload.start.startswith(QCOW2_MAGIC)
    name = "initramfs" if content.kind == "initramfs" else "rootfs.qcow2" if is_qcow2 else "rootfs.img"
    if name in content.files:
        raise refuse(f"{name!r} is in it, and its disk is at {declared.url}")
    here = declared.model_copy(update={"path": name, "url": None})
    manifest = content.manifest.model_copy(update={content.kind: here})
    return _conclude(manifest, replace(payload, name=name), content.files, descriptor)


def parse_manifest(text: bytes) -> Manifest:
    """A manifest from its JSON; InvalidInput tells every problem in it at once."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'manifest'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise InvalidInput("cannot read manifest.json: it is not valid", details=problems[:20]) from None


def _declared_path(manifest: Manifest) -> str | None:
    declared = manifest.rootfs or manifest.initramfs
    return declared.path.removeprefix("./") if declared is not None and declared.path is not None else None


def _is_payload(entry: Entry, manifest: Manifest | None, payload: _Payload | None, limits: Limits) -> bool:
    if manifest is not None and (manifest.rootfs or manifest.initramfs):
        return entry.name == _declared_path(manifest)
    # The manifest is still to come, or says nothing about it.
    if payload is not None:
        return entry.size > limits.small_file_bytes
    return entry.name.endswith(_DISK_SUFFIXES + _INITRAMFS_SUFFIXES) or entry.size > limits.small_file_bytes


def _read_small(archive: TarStream, entry: Entry, limits: Limits) -> bytes:
    if entry.size > limits.small_file_bytes:
        raise refuse(f"{entry.name!r} is {entry.size >> 20} MiB and not what the manifest names as its disk")
    parts: list[bytes] = []
    while data := archive.read(_COPY_BYTES):
        parts.append(data)
    return b"".join(parts)


def _copy_payload(archive: TarStream, entry: Entry, descriptor: int | None, limits: Limits) -> _Payload:
    if entry.size > limits.payload_bytes:
        raise refuse(f"{entry.name!r} would be {entry.size >> 30} GiB")
    return _copy(entry.name, archive.read, descriptor, limits)


def _copy(name: str, read: Callable[[int], bytes], descriptor: int | None, limits: Limits) -> _Payload:
    digest = hashlib.sha256()
    start = b""
    position = 0
    try:
        while data := read(_COPY_BYTES):
            digest.update(data)
            if not position:
                start = data[:64]
            if position + len(data) > limits.payload_bytes:
                raise refuse(f"{name!r} is larger than {limits.payload_bytes >> 30} GiB")
            if descriptor is not None:
                _write_sparse(descriptor, data, position)
            position += len(data)
        if descriptor is not None:
            os.ftruncate(descriptor, position)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull(
                f"cannot store the plugin's {name}: {error.strerror}",
                resolution="free some space on that disk",
            ) from error
        raise
    return _Payload(name, position, f"sha256:{digest.hexdigest()}", start)


def _write_sparse(descriptor: int, data: bytes, position: int) -> None:
    """Write all but long runs of zeros, which stay holes."""
    for first in range(0, len(data), _HOLE_BYTES):
        part = data[first : first + _HOLE_BYTES]
        if part == _ZEROS[: len(part)]:
            continue
        offset = position + first
        while part:
            written = os.pwrite(descriptor, part, offset)
            offset += written
            part = part[written:]


def _conclude(
    manifest: Manifest, payload: _Payload | None, files: Mapping[str, bytes], descriptor: int | None
) -> PluginContent:
    declared = manifest.rootfs or manifest.initramfs
    if payload is None:
        if declared is None:
            raise refuse("it holds no disk", "add the disk: tar czf plugin.tar.gz manifest.json rootfs.qcow2")
        if declared.path is not None:
            raise refuse(f"{declared.path!r}, which its manifest names, is not in it")
        kind: Literal["rootfs", "initramfs"] = "rootfs" if manifest.rootfs else "initramfs"
        return PluginContent(manifest, kind, "", 0, 0, declared.checksum or "", files)
    if declared is not None and payload.name != _declared_path(manifest):
        raise refuse(f"its manifest names {declared.path or declared.url!r}, but it holds {payload.name!r}")
    if declared is not None and declared.checksum not in (None, payload.checksum):
        raise refuse(
            f"the checksum of {payload.name} is not the one in its manifest",
            "it was damaged or changed on its way: fetch it again",
        )
    if manifest.initramfs is not None or (declared is None and _is_initramfs(payload)):
        if not payload.start.startswith(_INITRAMFS_MAGICS):
            raise refuse(f"{payload.name!r} is not a cpio archive")
        ram = InitramfsFile(path=payload.name, checksum=payload.checksum)
        complete = manifest.model_copy(update={"initramfs": ram})
        return PluginContent(complete, "initramfs", payload.name, payload.size, 0, payload.checksum, files)
    return _conclude_disk(manifest, payload, files, descriptor)


def _is_initramfs(payload: _Payload) -> bool:
    return not payload.name.endswith(_DISK_SUFFIXES) and payload.start.startswith(_INITRAMFS_MAGICS)


def _conclude_disk(
    manifest: Manifest, payload: _Payload, files: Mapping[str, bytes], descriptor: int | None
) -> PluginContent:
    found: DiskImage | None = None
    if descriptor is not None:
        found = probe_disk(descriptor, payload.size)
    format_: Literal["qcow2", "raw"] = "qcow2" if payload.start.startswith(QCOW2_MAGIC) else "raw"
    declared = manifest.rootfs
    if declared is not None and "format" in declared.model_fields_set and declared.format != format_:
        raise refuse(f"{payload.name!r} is {format_}, its manifest says {declared.format}")
    boot = declared.boot if declared is not None else None
    disk = DiskFile(
        path=payload.name,
        format=format_,
        checksum=payload.checksum,
        boot=boot or (found.boot if found else None),
    )
    virtual = found.virtual_size_bytes if found else _stated_virtual_size(payload, format_)
    complete = manifest.model_copy(update={"rootfs": disk})
    return PluginContent(complete, "rootfs", payload.name, payload.size, virtual, payload.checksum, files)


def _stated_virtual_size(payload: _Payload, format_: str) -> int:
    return int.from_bytes(payload.start[24:32], "big") if format_ == "qcow2" else payload.size
