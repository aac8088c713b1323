# SPDX-License-Identifier: Apache-2.0
"""One shared folder: every act on it starts at its own descriptor and follows no link (openat2(2)).

A guest is never led out: `..` is refused before anything is opened, a link on the way ends in ELOOP whoever puts it
there and when, and the last part of a path is only ever acted on as what it is. Links are for the guest's kernel to
follow, in the guest. Landlock stands behind all of this (`server.py`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from volant.volantd.folders.wire import Refused

OPENAT2 = 437
RENAMEAT2 = {"x86_64": 316, "aarch64": 276}
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 2, 4, 8
HOW = struct.Struct("QQQ")
# A rename elsewhere in the tree makes the kernel unsure: it asks to try again.
TRIES = 16
# What a guest may ask for when it opens; the rest is ours to say. O_APPEND is the guest kernel's own business.
OPEN_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_CREAT | os.O_EXCL
KEPT_MODE = 0o1777
_LIBC = ctypes.CDLL(None, use_errno=True)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Open what lies below `root`, without following any link."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    how = HOW.pack(flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(TRIES):
        opened = int(_LIBC.syscall(OPENAT2, root, path or b".", how, ctypes.c_size_t(HOW.size)))
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            raise Refused(number)
    raise Refused(errno.EAGAIN)


class SharedFolder:
    """`path` may be a file: then it is all that there is, under the empty path."""

    def __init__(self, path: str, *, read_only: bool) -> None:
        self.read_only = read_only
        self._file = b""
        if not os.path.isdir(path):
            path, name = os.path.split(path)
            self._file = os.fsencode(name)
        self.root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.device = os.fstat(self.root).st_dev

    @property
    def is_file(self) -> bool:
        return bool(self._file)

    def check_writable(self) -> None:
        if self.read_only:
            raise Refused(errno.EROFS)

    @contextmanager
    def above(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """A descriptor of the folder that a path is in, and its last part; ready for the calls that end in -at."""
        if self._file:
            if path:
                raise Refused(errno.ENOENT)
            yield self.root, self._file
            return
        parent, _, name = path.rpartition(b"/")
        if not parent:
            yield self.root, name or b"."
            return
        opened = open_beneath(self.root, parent, os.O_PATH | os.O_DIRECTORY)
        try:
            yield opened, name
        finally:
            os.close(opened)

    @contextmanager
    def pinned(self, path: bytes) -> Iterator[str]:
        """A path of this process to exactly that file, for calls that know no descriptors of links."""
        with self.above(path) as (parent, name):
            opened = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if stat.S_ISLNK(os.fstat(opened).st_mode):
                raise Refused(errno.EOPNOTSUPP)
            yield f"/proc/self/fd/{opened}"
        finally:
            os.close(opened)

    def stat(self, path: bytes) -> os.stat_result:
        with self.above(path) as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)

    @contextmanager
    def open_folder(self, path: bytes) -> Iterator[int]:
        if self._file:
            raise Refused(errno.ENOTDIR)
        opened = open_beneath(self.root, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield opened
        finally:
            os.close(opened)

    def open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """A regular file and nothing else: a FIFO would hold us up, a device is the host's."""
        flags &= OPEN_FLAGS
        if flags & (os.O_ACCMODE | os.O_TRUNC | os.O_CREAT):
            self.check_writable()
        # O_TRUNC only once it is known what it is.
        opening = flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with self.above(path) as (parent, name):
            opened = os.open(name, opening, mode & 0o777, dir_fd=parent)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise Refused(errno.EACCES)
            if flags & os.O_TRUNC:
                os.ftruncate(opened, 0)
        except BaseException:
            os.close(opened)
            raise
        return opened

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        self.check_writable()
        with self.above(old) as (old_parent, old_name), self.above(new) as (new_parent, new_name):
            if not flags:
                os.rename(old_name, new_name, src_dir_fd=old_parent, dst_dir_fd=new_parent)
                return
            call = RENAMEAT2[os.uname().machine]
            if _LIBC.syscall(call, old_parent, old_name, new_parent, new_name, ctypes.c_uint(flags)) < 0:
                raise Refused(ctypes.get_errno())

    def make_node(self, path: bytes, mode: int) -> None:
        """Files, FIFOs and sockets; devices are for those who own a host."""
        self.check_writable()
        if stat.S_IFMT(mode) not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
            raise Refused(errno.EPERM)
        with self.above(path) as (parent, name):
            os.mknod(name, stat.S_IFMT(mode) | mode & 0o777, dir_fd=parent)
