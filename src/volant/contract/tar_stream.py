# SPDX-License-Identifier: Apache-2.0
"""A tar or tar.gz as a stream of entries, read once, in bounded memory, trusting nothing.

The standard library's tarfile reads extended headers of any size into memory and follows whatever they say; here
every number has a bound, and what a plugin has no use for (links, devices, sparse entries) is an error.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from volant.errors import InvalidInput
from volant.tar_headers import BLOCK_BYTES as _BLOCK
from volant.tar_headers import (
    MalformedHeader,
    find_prefix,
    has_right_sum,
    parse_decimal,
    parse_number,
    parse_pax,
)

_READ_BYTES = 1 << 16
_MOST_HEADER_BYTES = 1 << 16
_MOST_TRAILING_BYTES = 16 << 20
# Directories and extended headers cost a hostile archive a thousandth of their size.
_MOST_HEADERS = 1 << 14
_GZIP_MAGIC = b"\x1f\x8b"
_KINDS = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "FIFO",
    b"S": "sparse file",
}


def refuse(why: str, resolution: str = "") -> InvalidInput:
    return InvalidInput(f"cannot read the plugin archive: {why}", resolution=resolution)


@dataclass(frozen=True)
class Entry:
    """A plain file. `name` is relative, with no "." and ".." in it."""

    name: str
    size: int


class TarStream:
    """Entries of an archive, in order. Between two entries the content must be read, or it is skipped."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> None:
        self._input = _Input(stream, on_bytes)
        self._left = 0
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """Each plain file; directories are passed over. Raises InvalidInput for anything else."""
        try:
            yield from self._entries()
        except MalformedHeader as error:
            raise refuse(f"{error}") from error

    def _entries(self) -> Iterator[Entry]:
        overrides: dict[bytes, bytes] = {}
        count = 0
        while (header := self._read_header(first=not count)) is not None:
            count += 1
            if count > _MOST_HEADERS:
                raise refuse(f"it has more than {_MOST_HEADERS} headers")
            kind = header[156:157]
            size = parse_number(header[124:136])
            if size < 0:
                raise refuse("one of its entries has a negative size")
            if kind in (b"x", b"g", b"L", b"K"):
                content = self._read_extension(size)
                if kind == b"x":
                    overrides |= dict(parse_pax(content))
                elif kind == b"L":
                    overrides[b"path"] = content.partition(b"\0")[0]
                continue
            name = _decode(overrides.get(b"path") or _join_name(header))
            if any(key.startswith(b"GNU.sparse") for key in overrides) or kind == b"S":
                raise refuse(f"{name!r} is stored as a sparse file", "pack it without tar's --sparse option")
            if overrides.get(b"size"):
                size = parse_decimal(overrides[b"size"], "size")
            overrides = {}
            # Folders have no content, whatever their size says.
            if kind == b"5" or (name.endswith("/") and (kind == b"\0" or not size)):
                _clean_name(name)
                continue
            if kind not in (b"0", b"\0", b"7"):
                raise refuse(
                    f"{name!r} is a {_KINDS.get(kind, 'thing of an unknown kind')}, not a plain file"
                )
            self._left, self._padding = size, -size % _BLOCK
            if not (cleaned := _clean_name(name)):
                raise refuse(f"{name!r} is not the name of a file")
            yield Entry(cleaned, size)
            while self._left:
                self.read(_READ_BYTES)
            self._input.read_exactly(self._padding)
        self._input.drain(_MOST_TRAILING_BYTES)

    def read(self, length: int) -> bytes:
        """At most `length` bytes of the current entry; b"" at its end."""
        data = self._input.read(min(length, self._left)) if self._left else b""
        if self._left and not data:
            raise refuse("it is cut short")
        self._left -= len(data)
        return data

    def _read_header(self, *, first: bool) -> bytes | None:
        header = self._input.read_exactly(_BLOCK, "it is not a tar archive, or is cut short" if first else "")
        if header == bytes(_BLOCK):
            return None
        if not has_right_sum(header):
            raise refuse("its header's checksum is wrong: it is not a tar archive, or is damaged")
        return header

    def _read_extension(self, size: int) -> bytes:
        if size > _MOST_HEADER_BYTES:
            raise refuse(f"an extended header of {size} bytes")
        return self._input.read_exactly(size + -size % _BLOCK)[:size]


class _Input:
    """Inflated bytes, some at a time; gzip members follow each other, plain tar passes through."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None] | None) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._raw = self._read_raw()
        if not self._raw:
            raise refuse("it is empty")
        self._inflater = self._new_inflater() if self._raw[:2] == _GZIP_MAGIC else None
        self._ready = b""
        self._position = 0

    @staticmethod
    def _new_inflater() -> zlib._Decompress:
        return zlib.decompressobj(31)

    def _read_raw(self) -> bytes:
        data = self._stream.read(_READ_BYTES)
        if data and self._on_bytes is not None:
            self._on_bytes(len(data))
        return data

    def read(self, length: int) -> bytes:
        """At least one byte and at most `length`; b"" at the end."""
        if self._position == len(self._ready):
            self._ready, self._position = self._next(), 0
        data = self._ready[self._position : self._position + length]
        self._position += len(data)
        return data

    def read_exactly(self, length: int, or_why: str = "") -> bytes:
        parts: list[bytes] = []
        while length:
            data = self.read(length)
            if not data:
                raise refuse(or_why or "it is cut short")
            parts.append(data)
            length -= len(data)
        return b"".join(parts)

    def drain(self, limit: int) -> None:
        """Read what follows the last entry, so that the gzip checksum is verified."""
        while data := self.read(_READ_BYTES):
            limit -= len(data)
            if limit < 0:
                raise refuse("something follows its end")

    def _next(self) -> bytes:
        if self._inflater is None:
            data, self._raw = self._raw or self._read_raw(), b""
            return data
        while True:
            if self._inflater.eof:
                rest = (self._inflater.unused_data or self._read_raw()).lstrip(b"\0")
                if not rest:
                    # Only padding may follow, which other tools ignore, too.
                    while more := self._read_raw():
                        if more.strip(b"\0"):
                            raise refuse("something follows its end")
                    return b""
                if rest[:1] != _GZIP_MAGIC[:1]:
                    raise refuse("something follows its end")
                self._inflater, self._raw = self._new_inflater(), rest
            if not self._raw:
                self._raw = self._read_raw()
                if not self._raw:
                    raise refuse("it is cut short")
            try:
                data = self._inflater.decompress(self._raw, _READ_BYTES * 4)
            except zlib.error as error:
                raise refuse(f"it is damaged ({error})") from error
            self._raw = self._inflater.unconsumed_tail
            if data:
                return data


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise refuse(f"the name {raw!r} is not UTF-8") from None


def _join_name(header: bytes) -> bytes:
    name, prefix = header[:100].partition(b"\0")[0], find_prefix(header)
    return prefix + b"/" + name if prefix else name


def _clean_name(name: str) -> str:
    if name.startswith("/") or "\0" in name or "\\" in name:
        raise refuse(f"{name!r} is not a relative path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refuse(f"{name!r} leads outside")
    return "/".join(parts)
