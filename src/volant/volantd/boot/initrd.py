# SPDX-License-Identifier: Apache-2.0
"""The boot archive of one VM: an initramfs plugin's own archive, then the agent and drivers, then guest.json.

The kernel unpacks archives one after another, later files over earlier ones
(Documentation/driver-api/early-userspace/buffer-format.rst). Two traps are silent, the guest boots on without
what was appended: an archive whose length is no multiple of four, and anything after an LZ4 archive. So every
part is padded, LZ4 is unpacked first, and ours stays plain: the kernel copies 10 MB faster than it inflates
them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from volant.contract.guest_config import GUEST_CONFIG_PATH, GuestConfig
from volant.cpio import CpioWriter
from volant.errors import InvalidInput
from volant.volantd.boot.kernel import LZ4_LEGACY_MAGIC, decompress_lz4_legacy
from volant.volantd.boot.modules import ModuleFile
from volant.whole_file import WholeFile

# Part of the key of cached archives: to be changed with the layout below.
LAYOUT = b"1"
ALIGNMENT = 4


def make_base_archive(agent: Path, modules: Sequence[ModuleFile], cache: Path) -> Path:
    """The part that VMs share: `agent` as /init and the modules under /volant/modules; kept in `cache` by
    content."""
    key = hashlib.sha256(LAYOUT)
    for path in (agent, *(module.path for module in modules)):
        status = path.stat()
        key.update(path.name.encode() + b"\0" + _digest(path, status.st_size, status.st_mtime_ns))
    target = cache / f"base-{key.hexdigest()[:32]}.cpio"
    if target.is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with _written_atomically(target, 0o644) as stream:
        archive = CpioWriter(stream)
        archive.add(b"init", stat.S_IFREG | 0o755, agent.read_bytes())
        archive.add_directory(b"volant", 0o700)
        archive.add_directory(b"volant/modules")
        for module in modules:
            archive.add(f"volant/modules/{module.archive_name}".encode(), stat.S_IFREG | 0o644, module.read())
        archive.finish()
    return target


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size_bytes: int, mtime_ns: int) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def make_guest_archive(config: GuestConfig) -> bytes:
    """The few hundred bytes that are this VM's: guest.json, readable by root alone (it holds keys)."""
    stream = io.BytesIO()
    archive = CpioWriter(stream)
    archive.add(GUEST_CONFIG_PATH.encode(), stat.S_IFREG | 0o600, config.model_dump_json().encode())
    archive.finish()
    return stream.getvalue()


def write_initrd(target: Path, base: Path, config: GuestConfig, plugin_archive: Path | None = None) -> None:
    """Write a VM's boot archive to `target`, mode 0600, whole or not at all."""
    with _written_atomically(target, 0o600) as stream:
        write_archives(stream, base, config, plugin_archive)


def write_archives(
    stream: BinaryIO, base: Path, config: GuestConfig, plugin_archive: Path | None = None
) -> None:
    """The parts of a VM's boot archive, one after the other, from the stream's beginning."""
    if plugin_archive is not None:
        _append_plugin_archive(stream, plugin_archive)
    with base.open("rb") as source:
        shutil.copyfileobj(source, stream, 1 << 20)
    _pad(stream)
    stream.write(make_guest_archive(config))


def _append_plugin_archive(stream: BinaryIO, archive: Path) -> None:
    with archive.open("rb") as source:
        magic = source.read(6)
        source.seek(0)
        if magic.startswith(LZ4_LEGACY_MAGIC):
            stream.write(decompress_lz4_legacy(source.read()))
        elif magic.startswith(_KNOWN_MAGICS):
            shutil.copyfileobj(source, stream, 1 << 20)
        else:
            raise InvalidInput(
                f"cannot boot from {archive.name}: it is no cpio archive in a form that the kernel unpacks",
                resolution="make it with: find . | cpio -o -H newc | gzip",
            )
    _pad(stream)


# cpio "newc" with and without checksums, gzip, xz, zstd, bzip2, lzma, lzo (lib/decompress.c)
_KNOWN_MAGICS = (
    b"070701", b"070702", b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh", b"\x5d\x00\x00", b"\x89LZO",
)  # fmt: skip


def _pad(stream: BinaryIO) -> None:
    stream.write(b"\0" * (-stream.tell() % ALIGNMENT))


@contextmanager
def _written_atomically(target: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is complete."""
    with WholeFile(target, mode=mode, is_durable=False) as file:
        with os.fdopen(file.descriptor, "w+b", closefd=False) as stream:
            yield stream
        file.publish()


def list_module_names(modules: Iterable[ModuleFile]) -> list[str]:
    """What guest.json's `modules` says for these files."""
    return [module.archive_name for module in modules]
