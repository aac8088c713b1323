# SPDX-License-Identifier: Apache-2.0
"""Extended attributes: in the inode where they fit, else in a block that all inodes with the same set share."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from volant.errors import InvalidInput
from volant.filesystems.ext4.checksums import MASK32, extend, stored
from volant.filesystems.ext4.layout import BLOCK_SIZE
from volant.filesystems.filetree import Xattrs

MAGIC = 0xEA020000
INODE_AREA = 96  # 256 bytes less the 160 that the inode itself uses
MAX_REFERENCES = 1024
_ENTRY = struct.Struct("<BBHIII")
_HEADER_BYTES = 32
# Longest prefix first. The two ACL names are whole names: nothing follows.
_PREFIXES = (
    (b"system.posix_acl_default", 3), (b"system.posix_acl_access", 2), (b"trusted.", 4), (b"security.", 6),
    (b"system.", 7), (b"user.", 1),
)  # fmt: skip
_ACL_SHORT_TAGS = frozenset((0x01, 0x04, 0x10, 0x20))


@dataclass(frozen=True)
class _Attribute:
    index: int
    name: bytes
    value: bytes

    @property
    def entry_bytes(self) -> int:
        return 16 + ((len(self.name) + 3) & ~3)

    @property
    def value_bytes(self) -> int:
        return (len(self.value) + 3) & ~3


@dataclass(frozen=True)
class StoredXattrs:
    """What one set of attributes becomes: the inode's 96 bytes and, where needed, the block's attributes."""

    inode_area: bytes
    block_attributes: tuple[_Attribute, ...] = ()


def _make_attribute(name: bytes, value: bytes) -> _Attribute:
    for prefix, index in _PREFIXES:
        if name.startswith(prefix) and (prefix.endswith(b".") or name == prefix):
            if index in (2, 3):
                return _Attribute(index, b"", convert_acl(value))
            suffix = name[len(prefix) :]
            if suffix and len(suffix) <= 255:
                return _Attribute(index, suffix, value)
    raise InvalidInput(
        f"cannot store extended attribute {name.decode('utf-8', 'replace')!r}: ext4 has no such name space"
    )


def convert_acl(value: bytes) -> bytes:
    """An ACL as system calls and tar carry it (version 2, 8 bytes an entry) → as ext4 stores it (version 1)."""
    if len(value) < 4 or (len(value) - 4) % 8 or int.from_bytes(value[:4], "little") != 2:
        raise InvalidInput("cannot store a POSIX ACL: its value is not an ACL of version 2")
    parts = [b"\1\0\0\0"]
    for tag, permissions, identity in struct.iter_unpack("<HHI", value[4:]):
        parts.append(struct.pack("<HH", tag, permissions))
        if tag not in _ACL_SHORT_TAGS:
            parts.append(struct.pack("<I", identity))
    return b"".join(parts)


def plan_xattrs(xattrs: Xattrs) -> StoredXattrs:
    """Where each attribute of a set goes. Raises InvalidInput where they are more than ext4 can hold."""
    attributes = sorted(
        (_make_attribute(name, value) for name, value in xattrs),
        key=lambda attribute: (attribute.index, len(attribute.name), attribute.name),
    )
    inside: list[_Attribute] = []
    outside: list[_Attribute] = []
    room = INODE_AREA - 4 - 4
    for attribute in attributes:
        needed = attribute.entry_bytes + attribute.value_bytes
        if needed <= room:
            room -= needed
            inside.append(attribute)
        else:
            outside.append(attribute)
    if sum(item.entry_bytes + item.value_bytes for item in outside) + _HEADER_BYTES + 4 > BLOCK_SIZE:
        raise InvalidInput(
            "cannot store the extended attributes of a file: together they are larger than 4 KiB",
            details=[f"{name.decode('utf-8', 'replace')}: {len(value)} bytes" for name, value in xattrs],
        )
    return StoredXattrs(_make_inode_area(inside) if inside else b"", tuple(outside))


def _make_inode_area(attributes: list[_Attribute]) -> bytes:
    # Value offsets count from the first entry here, from the start of the block there.
    area = bytearray(INODE_AREA)
    area[0:4] = MAGIC.to_bytes(4, "little")
    _fill(area, 4, 4, attributes, hashed=False)
    return bytes(area)


def _fill(area: bytearray, first: int, base: int, attributes: list[_Attribute], *, hashed: bool) -> list[int]:
    position, end = first, len(area)
    hashes: list[int] = []
    for attribute in attributes:
        end -= attribute.value_bytes
        area[end : end + len(attribute.value)] = attribute.value
        hash_ = _hash_entry(attribute) if hashed else 0
        hashes.append(hash_)
        _ENTRY.pack_into(
            area, position, len(attribute.name), attribute.index,
            end - base if attribute.value else 0, 0, len(attribute.value), hash_,
        )  # fmt: skip
        area[position + 16 : position + 16 + len(attribute.name)] = attribute.name
        position += attribute.entry_bytes
    return hashes


def _hash_entry(attribute: _Attribute) -> int:
    hash_ = 0
    for byte in attribute.name:
        hash_ = ((hash_ << 5) ^ (hash_ >> 27) ^ byte) & MASK32
    padded = attribute.value.ljust(attribute.value_bytes, b"\0")
    for (word,) in struct.iter_unpack("<I", padded):
        hash_ = ((hash_ << 16) ^ (hash_ >> 16) ^ word) & MASK32
    return hash_


def make_xattr_block(
    attributes: tuple[_Attribute, ...], references: int, block: int, volume_state: int
) -> bytes:
    """A shared attribute block that lies at `block` and is used by `references` inodes."""
    area = bytearray(BLOCK_SIZE)
    hashes = _fill(area, _HEADER_BYTES, 0, list(attributes), hashed=True)
    total = 0
    for hash_ in hashes:
        if hash_ == 0:
            total = 0
            break
        total = ((total << 16) ^ (total >> 16) ^ hash_) & MASK32
    struct.pack_into("<IIII", area, 0, MAGIC, references, 1, total)
    checksum = stored(extend(extend(volume_state, block.to_bytes(8, "little")), bytes(area)))
    struct.pack_into("<I", area, 16, checksum)
    return bytes(area)
