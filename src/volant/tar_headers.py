# SPDX-License-Identifier: Apache-2.0
"""How the fields of a tar header read, for both readers: layers by byte ranges, plugin archives as a stream.

The rules are those of Go's archive/tar, which wrote and reads nearly every image. Sources: POSIX pax(1), the GNU tar
manual's "Tar Internals", tar(5) of libarchive.
"""

from __future__ import annotations

BLOCK_BYTES = 512
_MAGIC = slice(257, 265)
_PREFIX = slice(345, 500)
# star keeps its times in the last 24 bytes of what is ustar's prefix, and signs the header's end.
_STAR_PREFIX = slice(345, 476)
_ACCESS_TIME = slice(345, 357)
_CHANGE_TIME = slice(357, 369)
_OCTAL = b"01234567"


class MalformedHeader(ValueError):
    """A field that cannot be read; the reader knows which entry it belongs to."""


def parse_number(field: bytes) -> int:
    """Octal text, or a base-256 two's complement number where the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        # 0x80 marks a positive number and is no part of it; 0xff begins a negative one.
        value = value - (1 << bits) if field[0] & 0x40 else value & ~(0x80 << (bits - 8))
        if not -(1 << 62) < value < 1 << 62:
            raise MalformedHeader("one of its numbers does not fit 63 bits")
        return value
    # Unused fields are full of NULs, and some writers put them before the digits as well.
    text = field.strip(b" \0").partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    try:
        if not text.lstrip(b"-").isdigit():
            raise ValueError
        return int(text, 8)
    except ValueError:
        raise MalformedHeader(f"{field!r} is no number") from None


def parse_decimal(value: bytes, what: str, limit: int = 1 << 63) -> int:
    """A number of a PAX record; leading zeros do not count."""
    digits = value.removeprefix(b"+")
    if not digits.isdigit() or len(digits.lstrip(b"0")) > 20 or int(digits.lstrip(b"0") or b"0") >= limit:
        raise MalformedHeader(f"{what} {value[:40]!r} is no number")
    return int(digits.lstrip(b"0") or b"0")


def parse_pax(content: bytes) -> list[tuple[bytes, bytes]]:
    """Records `<length> <key>=<value>\\n` in order; lengths count bytes, values may hold any."""
    records: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(content):
        space = content.find(b" ", position)
        digits = content[position:space].lstrip(b"0") if space > position else b""
        end = position + int(digits) if digits.isdigit() and len(digits) < 20 else -1
        if not position < space < end <= len(content) or content[end - 1] != 0x0A:
            # Some writers pad with zeros; anything else is damage.
            if not content[position:].strip(b"\0"):
                break
            raise MalformedHeader("its PAX header is malformed")
        key, separator, value = content[space + 1 : end - 1].partition(b"=")
        if not separator or not key or b"\0" in key:
            raise MalformedHeader("its PAX header is malformed")
        records.append((key, value))
        position = end
    return records


def has_right_sum(header: bytes) -> bool:
    """Whether the header's sum is right, its own field counted as spaces. Very old tars summed signed bytes."""
    field = header[148:156]
    try:
        wanted = parse_number(field)
    except MalformedHeader:
        return False
    total = sum(header) - sum(field) + 256
    if total == wanted:
        return True
    return (
        total - 256 * sum(byte > 127 for byte in header) + 256 * sum(byte > 127 for byte in field) == wanted
    )


def find_prefix(header: bytes) -> bytes:
    """The folder that a header keeps apart from its name; empty where it has none.

    GNU's headers have times, offsets and a sparse map where ustar's have the prefix. Go's writer before 1.8 (and with
    it Docker before 17.06) put the prefix there all the same when a number did not fit its field. So what is no time
    is a folder. Raises MalformedHeader for what is neither.
    """
    if not header[345]:
        return b""
    magic = header[_MAGIC]
    if magic[:6] == b"ustar\0":
        field = _STAR_PREFIX if header[508:512] == b"tar\0" else _PREFIX
        return header[field].partition(b"\0")[0]
    if magic != b"ustar  \0" or (_is_time(header[_ACCESS_TIME]) and _is_time(header[_CHANGE_TIME])):
        return b""
    prefix = header[_PREFIX].partition(b"\0")[0]
    if not prefix.isascii():
        raise MalformedHeader("its header has neither times nor a folder where one of them belongs")
    return prefix


def _is_time(field: bytes) -> bool:
    """Nothing, base-256, or octal digits that fill the field: GNU tar writes all eleven."""
    if not field[0] or field[0] in (0x80, 0xFF):
        return True
    digits = field.rstrip(b"\0 ")
    return len(digits) >= len(field) - 1 and not digits.strip(b" ").strip(_OCTAL)
