# SPDX-License-Identifier: Apache-2.0
"""Reads files back out of a plugin's disk or initramfs, without a mount: names and sizes for `fledge inspect`, what an
image said of itself for volantd.

Only what that needs of ext4 (the kernel's Documentation/filesystems/ext4) and of cpio's "newc" form. A payload may
come from anywhere, so every loop is bounded and a structure that makes no sense ends the reading.
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from volant.contract.disk_probe import QCOW2_MAGIC, open_qcow2
from volant.contract.image_config import IMAGE_CONFIG_PATH, ImageConfig
from volant.contract.plugin_archive import PluginContent
from volant.errors import InvalidInput

_CHUNK_BYTES = 1 << 16
_CHUNKS_KEPT = 256
_MOST_ENTRIES = 20_000_000
# A tree of the largest directory that the kernel makes has far fewer; hostile ones point to themselves.
_MOST_BLOCKS = 4_000_000
_MOST_EXTENT_DEPTH = 5
_MOST_NAME_BYTES = 4096
_MOST_FILE_BYTES = 1 << 20
_ROOT_INODE = 2
_EXTENT_MAGIC = 0xF30A
_INCOMPAT_64BIT = 0x80
_INODE_USES_EXTENTS = 0x80000


class Unreadable(Exception):
    """A payload that holds no files which can be read here; never told to users."""


def list_files(descriptor: int, content: PluginContent) -> list[tuple[bytes, int]]:
    """(path without a leading slash, size in bytes) of every regular file. Raises Unreadable."""
    with _reading():
        if content.kind == "initramfs":
            return [(path, size) for path, size, _ in _read_cpio(descriptor)]
        return list(_Ext4(_open_disk(descriptor, content.payload_size_bytes)).walk())


def read_file(descriptor: int, content: PluginContent, path: str) -> bytes | None:
    """A small file's content by its absolute path, symlinks not followed; None: no such file. Raises Unreadable."""
    wanted = os.fsencode(path).strip(b"/")
    with _reading():
        if content.kind == "rootfs":
            return _Ext4(_open_disk(descriptor, content.payload_size_bytes)).read_file(wanted.split(b"/"))
        found: bytes | None = None
        for name, size, read in _read_cpio(descriptor):
            if name.removeprefix(b"./").strip(b"/") == wanted and size <= _MOST_FILE_BYTES:
                found = read()  # what a later archive holds wins
        return found


def find_image_config(descriptor: int, content: PluginContent) -> ImageConfig | None:
    """What the image said of itself; None where the payload tells nothing of it."""
    try:
        text = read_file(descriptor, content, IMAGE_CONFIG_PATH)
        return None if text is None else ImageConfig.model_validate_json(text)
    except (Unreadable, ValidationError):
        return None


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (ValueError, struct.error, EOFError, OSError, zlib.error, InvalidInput) as error:
        raise Unreadable(str(error)) from error


def _open_disk(descriptor: int, length: int) -> Callable[[int, int], bytes]:
    """Random access to the guest's bytes, the last used chunks kept: a compressed cluster is inflated whole."""
    read_raw: Callable[[int, int], bytes] = lambda offset, size: os.pread(descriptor, size, offset)  # noqa: E731
    if os.pread(descriptor, 4, 0) == QCOW2_MAGIC:
        read_raw = open_qcow2(descriptor, length).read
    kept: OrderedDict[int, bytes] = OrderedDict()

    def chunk(number: int) -> bytes:
        if number not in kept:
            kept[number] = read_raw(number * _CHUNK_BYTES, _CHUNK_BYTES)
            if len(kept) > _CHUNKS_KEPT:
                kept.popitem(last=False)
        kept.move_to_end(number)
        return kept[number]

    def read(offset: int, size: int) -> bytes:
        parts = []
        while size > 0:
            number, inside = divmod(offset, _CHUNK_BYTES)
            part = chunk(number)[inside : inside + size]
            if not part:
                raise EOFError
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    return read


class _Ext4:
    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        superblock = read(1024, 1024)
        if superblock[56:58] != b"\x53\xef":
            raise ValueError("no ext4 file system")
        (self._inodes,) = struct.unpack_from("<I", superblock, 0)
        (log_block,) = struct.unpack_from("<I", superblock, 24)
        (self._inodes_per_group,) = struct.unpack_from("<I", superblock, 40)
        (self._inode_size,) = struct.unpack_from("<H", superblock, 88)
        (incompat,) = struct.unpack_from("<I", superblock, 96)
        if log_block > 6 or not self._inodes_per_group:
            raise ValueError("an invalid superblock")
        self._block = 1024 << log_block
        self._has_64_bits = bool(incompat & _INCOMPAT_64BIT)
        self._descriptor_size = (
            max(32, struct.unpack_from("<H", superblock, 254)[0]) if self._has_64_bits else 32
        )
        self._blocks_left = _MOST_BLOCKS
        self._table = (2 if self._block == 1024 else 1) * self._block

    def _inode(self, number: int) -> bytes:
        if not 0 < number <= self._inodes:
            raise ValueError("an inode number outside the table")
        group, index = divmod(number - 1, self._inodes_per_group)
        descriptor = self._read(self._table + group * self._descriptor_size, self._descriptor_size)
        (block,) = struct.unpack_from("<I", descriptor, 8)
        if self._descriptor_size >= 64:
            block |= struct.unpack_from("<I", descriptor, 0x28)[0] << 32
        return self._read(block * self._block + index * self._inode_size, self._inode_size)

    def _blocks(self, node: bytes, expected_level: int | None = None) -> Iterator[tuple[int, int]]:
        """(number in the file, number on the disk) of the blocks of an extent tree's node, in order."""
        magic, entries, _, level = struct.unpack_from("<HHHH", node, 0)
        if magic != _EXTENT_MAGIC or level > _MOST_EXTENT_DEPTH or expected_level not in (None, level):
            raise ValueError("no extent tree")
        for entry in range(entries):
            at = 12 + entry * 12
            if level == 0:
                logical, count, high, low = struct.unpack_from("<IHHI", node, at)
                first = low | high << 32
                for index in range(count if count <= 32768 else 0):
                    self._spend_block()
                    yield logical + index, first + index
            else:
                self._spend_block()
                _, low, high = struct.unpack_from("<IIH", node, at)
                yield from self._blocks(self._read((low | high << 32) * self._block, self._block), level - 1)

    def _spend_block(self) -> None:
        self._blocks_left -= 1
        if self._blocks_left < 0:
            raise ValueError("folders that have no end")

    def _names(self, inode: bytes) -> Iterator[tuple[bytes, int]]:
        if not struct.unpack_from("<I", inode, 32)[0] & _INODE_USES_EXTENTS:
            raise ValueError("a folder without extents")
        for _, block in self._blocks(inode[40:100]):
            data = self._read(block * self._block, self._block)
            at = 0
            while at + 8 <= len(data):
                number, length, name_length = struct.unpack_from("<IHB", data, at)
                if length < 8:
                    raise ValueError("a folder entry of no length")
                name = data[at + 8 : at + 8 + name_length]
                if number and name not in (b"", b".", b".."):
                    yield name, number
                at += length

    def walk(self) -> Iterator[tuple[bytes, int]]:
        """(path, size) of every regular file; a file of several names is told once."""
        pending: list[tuple[bytes, int]] = [(b"", _ROOT_INODE)]
        seen = {_ROOT_INODE}
        while pending:
            folder, number = pending.pop()
            for name, child in self._names(self._inode(number)):
                if child in seen:
                    continue
                seen.add(child)
                if len(seen) > _MOST_ENTRIES:
                    raise ValueError("too many files")
                inode = self._inode(child)
                (mode,) = struct.unpack_from("<H", inode, 0)
                path = folder + name
                if stat.S_ISDIR(mode):
                    pending.append((path + b"/", child))
                elif stat.S_ISREG(mode):
                    yield path, _size_of(inode)

    def read_file(self, names: list[bytes]) -> bytes | None:
        inode = self._inode(_ROOT_INODE)
        for name in names:
            if not stat.S_ISDIR(struct.unpack_from("<H", inode, 0)[0]):
                return None
            number = next((number for entry, number in self._names(inode) if entry == name), None)
            if number is None:
                return None
            inode = self._inode(number)
        size = _size_of(inode)
        if not stat.S_ISREG(struct.unpack_from("<H", inode, 0)[0]) or size > _MOST_FILE_BYTES:
            return None
        content = bytearray(size + -size % self._block)
        for logical, block in self._blocks(inode[40:100]):
            start = logical * self._block
            if start < size:
                content[start : start + self._block] = self._read(block * self._block, self._block)
        return bytes(content[:size])


def _size_of(inode: bytes) -> int:
    size: int = struct.unpack_from("<I", inode, 4)[0] | struct.unpack_from("<I", inode, 108)[0] << 32
    return size


def _read_cpio(descriptor: int) -> Iterator[tuple[bytes, int, Callable[[], bytes]]]:
    """(path, size, a call that reads the content at once) of every regular file of one or more archives."""
    with os.fdopen(os.dup(descriptor), "rb") as raw, gzip.GzipFile(fileobj=raw) as stream:
        raw.seek(0)
        while header := stream.read(110):
            if header[:4] == b"\0\0\0\0":  # padding between archives
                skip = len(header) - len(header.lstrip(b"\0"))
                header = header[skip:] + stream.read(skip)
                if not header.strip(b"\0"):
                    continue
            if header[:6] not in (b"070701", b"070702"):
                raise ValueError("no cpio archive")
            mode, size, name_length = (_parse_hex(header[at : at + 8]) for at in (14, 54, 94))
            if name_length > _MOST_NAME_BYTES:
                raise ValueError("a name that no file has")
            name = stream.read(name_length)[:-1]
            stream.read(-(110 + name_length) % 4)
            end = stream.tell() + size + -size % 4
            if stat.S_ISREG(mode):
                yield name, size, lambda length=size: stream.read(length)  # type: ignore[misc]  # bound at once
            while (left := end - stream.tell()) > 0:
                if not stream.read(min(left, _CHUNK_BYTES)):
                    raise EOFError


def _parse_hex(digits: bytes) -> int:
    if len(digits) != 8 or not set(digits) <= set(b"0123456789abcdefABCDEF"):
        raise ValueError("no hexadecimal number")
    return int(digits, 16)
