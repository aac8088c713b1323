# SPDX-License-Identifier: Apache-2.0
"""A tar reader that touches headers only.

Content is told as byte ranges, so an archive of gigabytes costs a few reads of its headers. It understands what
layers are made of: ustar, GNU (long names, base-256 numbers, old sparse files) and PAX (POSIX.1-2001 pax, with
SCHILY.xattr and GNU.sparse 0.0, 0.1 and 1.0), in the way Go's archive/tar does (see tar_headers.py): global PAX
headers change nothing, and only regular files have content.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

from volant.tar_headers import (
    BLOCK_BYTES,
    MalformedHeader,
    find_prefix,
    has_right_sum,
    parse_decimal,
    parse_number,
    parse_pax,
)

REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0123456"

# A PAX header or GNU long name is text about one entry; Go's reader stops at the same size.
MAX_EXTENSION_BYTES = 1 << 20
MAX_SPARSE_PIECES = 1 << 18
_WINDOW_BYTES = 16 << 10

# The last: whether anything stands in the field of the prefix.
_HEADER = Struct("100s8s8s8s12s12s8sc100s72x8s8s?166x")
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_XATTR_PREFIX = b"SCHILY.xattr."
_EXTENSION_KINDS = frozenset((b"x", b"g", b"L", b"K"))
_REGULAR_KINDS = frozenset((b"0", b"\0", b"7"))
_KNOWN_KINDS = {bytes([kind]): kind for kind in (HARD_LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO)}


class TarError(Exception):
    """What is wrong, with the entry's name (as far as it is known) and the byte offset of its header."""

    def __init__(self, reason: str, entry: bytes, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.entry = entry
        self.offset = offset

    def __str__(self) -> str:
        name = f"entry {self.entry[:200].decode('utf-8', 'backslashreplace')!r}, " if self.entry else ""
        return f"{name}byte {self.offset}: {self.reason}"


class TarEntry(NamedTuple):
    """One entry as the archive spells it: `name` and `link` are raw, nothing is resolved.

    `kind` is one of the constants above, `offset` that of the content in the descriptor, `header_offset` that of
    the header from the archive's start. `sparse`: (position in the file, offset in the descriptor, length).
    """

    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    mtime_nanoseconds: int
    link: bytes
    major: int
    minor: int
    offset: int
    header_offset: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    sparse: tuple[tuple[int, int, int], ...] | None


# Called with what is odd about an entry and was read all the same, its name, and its header's offset.
Note = Callable[[str, bytes, int], None]


def _parse_time(value: bytes) -> tuple[int, int]:
    """PAX time, decimal seconds of any sign, as whole seconds (rounded down) and nanoseconds."""
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-").lstrip(b"0")
    if (
        len(digits) > 20
        or not (digits or b"0").isdigit()
        or not (fraction or b"0").isdigit()
        or not value.strip(b"-.")
    ):
        raise MalformedHeader(f"mtime {value[:40]!r} is no time")
    seconds = int(digits or b"0")
    nanoseconds = int(fraction[:9].ljust(9, b"0"))
    if whole.startswith(b"-"):
        seconds, nanoseconds = -seconds, -nanoseconds
        if nanoseconds:
            seconds, nanoseconds = seconds - 1, nanoseconds + 1_000_000_000
    if not -(1 << 62) < seconds < 1 << 62:
        raise MalformedHeader(f"mtime {value[:40]!r} is out of range")
    return seconds, nanoseconds


def _check_pieces(
    pieces: list[tuple[int, int]], size: int, offset: int, stored: int
) -> tuple[tuple[int, int, int], ...]:
    """Place (position, length) pairs one after the other at `offset`; they must ascend and fill `stored` bytes."""
    placed: list[tuple[int, int, int]] = []
    previous_end = 0
    for position, length in pieces:
        if position < previous_end or length < 0 or position + length > size:
            raise MalformedHeader("its map of a sparse file is out of order or longer than the file")
        previous_end = position + length
        if length:
            placed.append((position, offset, length))
            offset += length
            stored -= length
    if stored:
        raise MalformedHeader("its map of a sparse file does not fit the stored bytes")
    return tuple(placed)


class _Window:
    """Reads of one archive: small ones from a window that moves forward, larger ones as they come."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self.descriptor = descriptor
        self.end = offset + length

    def read(self, offset: int, count: int) -> bytes:
        if count > self.end - offset:
            raise MalformedHeader("the archive ends in the middle of it")
        content = os.pread(self.descriptor, count, offset)
        if len(content) != count:
            raise MalformedHeader("the archive ends in the middle of it")
        return content


def _read_old_sparse(window: _Window, header: bytes, offset: int) -> tuple[list[tuple[int, int]], int]:
    """The map of an old GNU sparse file, and where its content begins: past the extension blocks."""
    pieces: list[tuple[int, int]] = []
    block, start, count, extended = header, 386, 4, header[482]
    while True:
        for field in range(start, start + 24 * count, 24):
            if block[field]:
                pieces.append(
                    (parse_number(block[field : field + 12]), parse_number(block[field + 12 : field + 24]))
                )
        if not extended:
            return pieces, offset
        if len(pieces) > MAX_SPARSE_PIECES:
            raise MalformedHeader("its map of a sparse file is too long")
        block, start, count = window.read(offset, BLOCK_BYTES), 0, 21
        extended = block[504]
        offset += BLOCK_BYTES


def _read_new_sparse(window: _Window, offset: int, stored: int) -> tuple[list[tuple[int, int]], int]:
    """The map of a GNU.sparse 1.0 file, decimal lines before its content, and where the content begins."""
    end = offset + stored
    text = b""
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        line, newline, rest = text.partition(b"\n")
        if newline:
            text = rest
            numbers.append(parse_decimal(line, "sparse map"))
            if len(numbers) == 1:
                if numbers[0] > MAX_SPARSE_PIECES:
                    raise MalformedHeader("its map of a sparse file is too long")
                wanted += 2 * numbers[0]
            continue
        if offset >= end or len(line) > 20:
            raise MalformedHeader("its map of a sparse file is malformed")
        # One block at a time keeps `partition` cheap; the map is padded to a block.
        text += window.read(offset, min(BLOCK_BYTES, end - offset))
        offset += BLOCK_BYTES
    return list(zip(numbers[1::2], numbers[2::2], strict=True)), offset


def _find_sparse_map(records: list[tuple[bytes, bytes]]) -> tuple[list[tuple[int, int]] | None, bool]:
    """(pieces told in the PAX header, or None; whether the map comes before the content instead)."""
    values = dict(records)
    version = (values.get(b"GNU.sparse.major"), values.get(b"GNU.sparse.minor"))
    if version == (b"1", b"0"):
        return None, True
    if version[0] not in (None, b"0"):
        raise MalformedHeader("its sparse format is unknown")
    flat: list[bytes]
    if b"GNU.sparse.map" in values:
        flat = values[b"GNU.sparse.map"].split(b",") if values[b"GNU.sparse.map"] else []
    else:
        flat = [value for key, value in records if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
        if not flat and b"GNU.sparse.numblocks" not in values:
            return None, False
    if len(flat) % 2 or len(flat) > 2 * MAX_SPARSE_PIECES:
        raise MalformedHeader("its map of a sparse file is malformed")
    numbers = [parse_decimal(value, "sparse map") for value in flat]
    return list(zip(numbers[::2], numbers[1::2], strict=True)), False


def read_entries(descriptor: int, offset: int, length: int, note: Note | None = None) -> Iterator[TarEntry]:
    """The entries of the tar in a byte range of a descriptor, in order. Raises TarError.

    The archive ends with two blocks of zeros, or at a block boundary without them; what follows is not looked at.
    `note` is told what was read all the same though it should not be so.
    """
    window = _Window(descriptor, offset, length)
    base, end, position = offset, offset + length, offset
    buffer, buffer_start, buffer_end = b"", 0, 0
    # Numbers repeat (modes, owners, times), so most fields are one dictionary look-up.
    numbers: dict[bytes, int] = {}
    unpack, adler32, pread, new_tuple = _HEADER.unpack, zlib.adler32, os.pread, tuple.__new__

    records: list[tuple[bytes, bytes]] | None = None
    long_name: bytes | None = None
    long_link: bytes | None = None
    first = position
    name = b""
    try:
        while position < end:
            header_at = position
            if records is None and long_name is None and long_link is None:
                first, name = position, b""
            if not (buffer_start <= position and position + BLOCK_BYTES <= buffer_end):
                buffer = pread(descriptor, min(_WINDOW_BYTES, end - position), position)
                buffer_start, buffer_end = position, position + len(buffer)
                if len(buffer) < BLOCK_BYTES:
                    raise MalformedHeader("the archive ends in the middle of a header")
            header = buffer[position - buffer_start : position - buffer_start + BLOCK_BYTES]
            (name_field, mode_field, uid_field, gid_field, size_field, mtime_field, sum_field, flag, link_field,
             major_field, minor_field, has_prefix) = unpack(header)  # fmt: skip

            # The low half of Adler-32 is one plus the sum of bytes modulo 65521: a sum in C instead of in Python.
            if (
                not sum_field[:6].isdigit()
                or ((adler32(header) & 0xFFFF) - 1 - sum(sum_field) + 256 - int(sum_field[:6], 8)) % 65521
            ):
                if header == _ZERO_BLOCK:
                    following = window.read(position + 512, 512) if position + 1024 <= end else _ZERO_BLOCK
                    if following != _ZERO_BLOCK:
                        raise MalformedHeader("a block of zeros stands where a header should")
                    break
                if not has_right_sum(header):
                    raise MalformedHeader("its header's checksum is wrong, or this is no tar")

            name = name_field.partition(b"\0")[0]
            mode = numbers.get(mode_field)
            if mode is None:
                mode = numbers[mode_field] = parse_number(mode_field)
            uid = numbers.get(uid_field)
            if uid is None:
                uid = numbers[uid_field] = parse_number(uid_field)
            gid = numbers.get(gid_field)
            if gid is None:
                gid = numbers[gid_field] = parse_number(gid_field)
            mtime = numbers.get(mtime_field)
            if mtime is None:
                if len(numbers) > 20_000:
                    numbers.clear()
                mtime = numbers[mtime_field] = parse_number(mtime_field)
            digits = size_field.rstrip(b"\0 ")
            size = int(digits, 8) if digits.isdigit() else parse_number(size_field)
            if size < 0:
                raise MalformedHeader("its size is negative")
            position += BLOCK_BYTES

            if flag in _EXTENSION_KINDS:
                if size > MAX_EXTENSION_BYTES:
                    raise MalformedHeader(f"its extended header of {size} bytes is too long")
                content = window.read(position, size)
                position += (size + 511) & ~511
                if flag == b"x":
                    records = parse_pax(content)
                elif flag == b"g":
                    parse_pax(content)
                elif flag == b"L":
                    long_name = content.partition(b"\0")[0]
                else:
                    long_link = content.partition(b"\0")[0]
                continue

            nanoseconds = major = minor = 0
            xattrs: tuple[tuple[bytes, bytes], ...] = ()
            sparse: tuple[tuple[int, int, int], ...] | None = None
            link = link_field.partition(b"\0")[0] if link_field[0] else b""
            if has_prefix:
                try:
                    prefix = find_prefix(header)
                except MalformedHeader as error:
                    prefix = b""
                    if note is not None:
                        note(str(error), name, first - base)
                if prefix:
                    name = prefix + b"/" + name
            if long_name is not None:
                name, long_name = long_name, None
            if long_link is not None:
                link, long_link = long_link, None
            real_size: int | None = None
            pieces: list[tuple[int, int]] | None = None
            has_map_in_content = False
            if records is not None:
                xattr_values: dict[bytes, bytes] = {}
                is_sparse = False
                for key, value in records:
                    if key.startswith(_XATTR_PREFIX):
                        xattr_values[key[len(_XATTR_PREFIX) :]] = value
                    elif not value:
                        continue
                    elif key == b"path":
                        name = value
                    elif key == b"linkpath":
                        link = value
                    elif key == b"mtime":
                        mtime, nanoseconds = _parse_time(value)
                    elif key == b"size":
                        size = parse_decimal(value, "size")
                    elif key == b"uid":
                        uid = parse_decimal(value, "uid")
                    elif key == b"gid":
                        gid = parse_decimal(value, "gid")
                    elif key.startswith(b"GNU.sparse."):
                        is_sparse = True
                        if key in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
                            real_size = parse_decimal(value, "size of a sparse file")
                if is_sparse:
                    pieces, has_map_in_content = _find_sparse_map(records)
                    if pieces is not None or has_map_in_content:
                        name = dict(records).get(b"GNU.sparse.name", b"") or name
                if xattr_values:
                    xattrs = tuple(sorted(xattr_values.items()))
                records = None
                if b"\0" in name or b"\0" in link:
                    raise MalformedHeader("its name holds a zero byte")
            if uid >> 32 or gid >> 32:
                raise MalformedHeader(f"its owner {uid}:{gid} is out of range")

            content_at = position
            kind = _KNOWN_KINDS.get(flag)
            if kind is not None:
                # These have no content, whatever their size field says (pax writes a hard link's size there).
                size = 0
                if kind in (CHARACTER, BLOCK):
                    major, minor = parse_number(major_field), parse_number(minor_field)
                    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                        raise MalformedHeader(f"its device number {major}:{minor} is out of range")
            elif flag == b"\0" and name.endswith(b"/"):
                # A folder in archives older than the type, without content like every folder.
                kind, size = DIRECTORY, 0
            elif flag in _REGULAR_KINDS or flag == b"S":
                kind = REGULAR
                if size > end - position:
                    raise MalformedHeader(f"its size of {size} bytes runs past the end of the archive")
                position += (size + 511) & ~511
                if flag == b"S":
                    real_size = parse_number(header[483:495])
                    pieces, content_at = _read_old_sparse(window, header, content_at)
                    # The extension blocks are not counted in the size of the content.
                    position += content_at - header_at - BLOCK_BYTES
                    if size > end - content_at:
                        raise MalformedHeader(f"its size of {size} bytes runs past the end of the archive")
                elif has_map_in_content:
                    pieces, content_at = _read_new_sparse(window, content_at, size)
                    size -= content_at - header_at - BLOCK_BYTES
                    if size < 0:
                        raise MalformedHeader("its map of a sparse file is malformed")
                if pieces is not None:
                    if real_size is None or real_size < 0:
                        raise MalformedHeader("the size of its sparse file is missing")
                    sparse = _check_pieces(pieces, real_size, content_at, size)
                    size = real_size
            elif flag == b"V":
                # A volume label names the archive, not a file.
                continue
            else:
                raise MalformedHeader(f"its type {flag!r} is unknown")

            # Without the Python-level __new__ of a named tuple, which costs as much as the rest of the tuple.
            yield new_tuple(TarEntry, (
                name, kind, mode & 0o7777, uid, gid, size, mtime, nanoseconds, link, major, minor,
                content_at, first - base, xattrs, sparse,
            ))  # fmt: skip
        has_extension = records is not None or long_name is not None or long_link is not None
        if has_extension and note is not None:
            # Nothing is missing that a reader could know of: Go's ends here, too.
            reason = "it is an extended header with no entry behind it, and was passed over"
            note(reason, name, first - base)
    except MalformedHeader as error:
        raise TarError(str(error), name, first - base) from None
    except ValueError:
        raise TarError("one of its numbers is none", name, first - base) from None
