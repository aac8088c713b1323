# SPDX-License-Identifier: Apache-2.0
"""Tar headers by hand, for what tarfile does not write, and layers that are odd and that umoci unpacks."""

from __future__ import annotations

END = bytes(1024)
BIG_OWNER = b"\x80\0\0\0\0\x21\x91\xc0"  # 2,200,000: too many digits for seven
_FOLDER = b"usr/share/some/folder/" + b"deep/" * 15 + b"end"


def make_header(
    name: bytes, size: bytes = b"00000000000\0", kind: bytes = b"0", *, magic: bytes = b"ustar  \0",
    uid: bytes = b"0000000\0", gid: bytes = b"0000000\0", mtime: bytes = b"00000000000\0", tail: bytes = b"",
) -> bytes:  # fmt: skip
    """One block; `tail` stands from byte 345 on."""
    header = bytearray(512)
    header[0 : len(name)] = name
    header[100:108], header[108:116], header[116:124] = b"0000644\0", uid, gid
    header[124:136], header[136:148], header[156:157] = size, mtime, kind
    header[257:265] = magic
    header[345 : 345 + len(tail)] = tail
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def make_pax(records: bytes) -> bytes:
    content = records + bytes(-len(records) % 512)
    return make_header(b"PaxHeaders/x", b"%011o\0" % len(records), b"x", magic=b"ustar\x0000") + content


def _file(content: bytes = b"content", **fields: bytes) -> bytes:
    name = fields.pop("name", b"file")
    fields.setdefault("size", b"%011o\0" % len(content))
    return make_header(name, **fields) + content.ljust(512, b"\0")


# What each is about → the layer.
ODD_LAYERS = {
    # Go before 1.8, Docker before 17.06: an owner in base 256 turns the magic to GNU's, the folder stays.
    "gnu-magic-with-a-folder": _file(uid=BIG_OWNER, tail=_FOLDER) + END,
    "gnu-magic-with-a-short-folder": _file(uid=BIG_OWNER, tail=b"x" * 15 + b"/y") + END,
    "gnu-magic-with-times": _file(tail=b"14000000000\x0014000000001\0") + END,
    "gnu-magic-with-times-in-base-256": _file(tail=b"\x80" + b"\0" * 7 + b"\x60aaa" + b"\x80" + b"\0" * 11) + END,
    "gnu-magic-with-a-folder-that-begins-like-a-time": _file(tail=b"14000000000/14000000001/x") + END,
    "gnu-magic-with-neither": _file(tail=b"\xc3\xbcber/x") + END,
    "star": _file(magic=b"ustar\x0000", tail=_FOLDER[:60].ljust(131, b"\0") + b"14000000000\x0014000000001\0"
                  + bytes(8) + b"tar\0") + END,
    "numbers-behind-nul": _file(uid=bytes(2) + b"175" + bytes(3), gid=bytes(1) + b"0144 " + bytes(2),
                                size=bytes(4) + b"0000007" + bytes(1)) + END,
    "numbers-of-nul-alone": _file(uid=bytes(8), mtime=bytes(12)) + END,
    "v7-folder-with-a-size": make_header(b"d/", b"00000001000\0", b"\0", magic=bytes(8)) + _file() + END,
    "pax-size-with-zeros": make_pax(b"32 size=00000000000000000000007\n") + _file(size=b"00000000000\0") + END,
    "pax-length-with-zeros": make_pax(b"00000000000000000000000038 path=named\n") + _file() + END,
    "pax-header-at-the-end": _file() + make_pax(b"14 path=named\n"),
    "pax-header-before-the-end": _file() + make_pax(b"14 path=named\n") + END,
    "long-name-at-the-end": _file() + make_header(b"L", b"00000000005\0", b"L") + b"named".ljust(512, b"\0") + END,
}  # fmt: skip
