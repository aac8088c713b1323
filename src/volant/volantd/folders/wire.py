# SPDX-License-Identifier: Apache-2.0
"""What a guest and the file server say to each other (kestrel/internal/folders/wire.go is the other side).

Little endian. A request is its length, a number, an operation, the folder that it is about, and what the operation
needs; the answer its length, that number, an errno and what was asked for. Number 0 is an event. Paths are relative to
the folder and have no links in them: the guest's kernel has followed those, in the guest.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
import struct

VERSION = 1
MAX_DATA = 1 << 20
# What a request has beside data: two paths and some numbers.
REQUEST_LIMIT = MAX_DATA + (16 << 10)
LONGEST_PATH = 4095
LONGEST_NAME = 255

HEAD = struct.Struct("<IIBB")
ANSWER = struct.Struct("<III")
ATTRIBUTES = struct.Struct("<IIQQQqqq")
CHANGED, ENTRY, TREE = 1, 2, 3


class Operation(enum.IntEnum):
    HELLO = 0
    LIST = 1
    STAT = 2
    OPEN = 3
    CREATE = 4
    READ = 5
    WRITE = 6
    CLOSE = 7
    SETATTR = 8
    MKDIR = 9
    MKNOD = 10
    UNLINK = 11
    RMDIR = 12
    RENAME = 13
    SYMLINK = 14
    READLINK = 15
    LINK = 16
    FSYNC = 17
    STATFS = 18
    GETXATTR = 19
    SETXATTR = 20
    LISTXATTR = 21
    REMOVEXATTR = 22
    ALLOCATE = 23


class Refused(OSError):
    """What the guest is told in place of an answer."""

    def __init__(self, number: int) -> None:
        super().__init__(number, os.strerror(number))


class Body:
    """Reads what an operation needs; the guest may have sent anything."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, count: int) -> memoryview:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise Refused(errno.EINVAL)
        self._at += count
        return taken

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def time(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def text(self) -> bytes:
        found = bytes(self.take(int.from_bytes(self.take(2), "little")))
        if b"\0" in found:
            raise Refused(errno.EINVAL)
        return found

    def path(self) -> bytes:
        """Empty: the folder itself."""
        found = self.text()
        if len(found) > LONGEST_PATH:
            raise Refused(errno.ENAMETOOLONG)
        for part in found.split(b"/") if found else ():
            if part in (b"", b".", b".."):
                raise Refused(errno.EINVAL)
            if len(part) > LONGEST_NAME:
                raise Refused(errno.ENAMETOOLONG)
        return found

    def rest(self) -> memoryview:
        return self._data[self._at :]


def pack_text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "little") + text


def pack_attributes(status: os.stat_result, device: int) -> bytes:
    """`device`: of the folder itself. What lies on another file system has inode numbers of its own."""
    inode = status.st_ino
    if status.st_dev != device:
        inode = (inode ^ (status.st_dev << 40) ^ 1 << 63) & 0xFFFF_FFFF_FFFF_FFFF
    # No program of the host's is anything more than what its owner may do.
    mode = status.st_mode & ~(stat.S_ISUID | stat.S_ISGID)
    return ATTRIBUTES.pack(
        mode, min(status.st_nlink, 0xFFFF_FFFF), inode, status.st_size, status.st_blocks,
        status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def pack_event(folder: int, kind: int, path: bytes, name: bytes = b"") -> bytes:
    body = bytes((folder, kind)) + pack_text(path) + name
    return ANSWER.pack(8 + len(body), 0, 0) + body
