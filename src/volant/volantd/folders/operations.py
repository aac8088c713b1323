# SPDX-License-Identifier: Apache-2.0
"""What a guest may ask of its folders: one method an operation. An OSError is what the guest hears."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable, Sequence

from volant.volantd.folders.tree import KEPT_MODE, SharedFolder
from volant.volantd.folders.watches import Place, Watches
from volant.volantd.folders.wire import MAX_DATA, Body, Operation, Refused, pack_attributes, pack_text

MOST_OPEN = 1024
# Beside the flags of OPEN: a file of this size or less comes with the answer.
WANT_CONTENT, SMALL_FILE = 1 << 31, 32 << 10
# Entries in one answer to LIST.
PAGE = 4096
WATCHED, MORE, SETTLED = 1, 2, 4
# Longer than any file system's clock is coarse: what changes after that has another time.
SETTLE_NANOSECONDS = 3_000_000_000
SET_MODE, SET_SIZE, SET_ACCESSED, SET_WRITTEN, SET_ACCESSED_NOW, SET_WRITTEN_NOW = 1, 2, 4, 8, 16, 32
LONGEST_XATTR = 64 << 10
_LIBC = ctypes.CDLL(None, use_errno=True)


class Operations:
    """All folders of one VM. `touched` collects what the current operation changed itself."""

    def __init__(self, folders: Sequence[SharedFolder], watches: Watches) -> None:
        self.touched: set[tuple[int, bytes]] = set()
        self._folders = folders
        self._watches = watches
        self._open: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._acts: dict[int, Callable[[int, SharedFolder, Body], bytes]] = {
            Operation.LIST: self._list, Operation.STAT: self._stat, Operation.OPEN: self._open_file,
            Operation.CREATE: self._create_file, Operation.READ: self._read, Operation.WRITE: self._write,
            Operation.CLOSE: self._close, Operation.SETATTR: self._set_attributes, Operation.MKDIR: self._make_folder,
            Operation.MKNOD: self._make_node, Operation.UNLINK: self._unlink, Operation.RMDIR: self._remove_folder,
            Operation.RENAME: self._rename, Operation.SYMLINK: self._symlink, Operation.READLINK: self._readlink,
            Operation.LINK: self._link, Operation.FSYNC: self._fsync, Operation.STATFS: self._statfs,
            Operation.GETXATTR: self._get_xattr, Operation.SETXATTR: self._set_xattr,
            Operation.LISTXATTR: self._list_xattrs, Operation.REMOVEXATTR: self._remove_xattr,
            Operation.ALLOCATE: self._allocate,
        }  # fmt: skip

    def act(self, operation: int, number: int, data: memoryview) -> bytes:
        if operation == Operation.HELLO:
            return b""
        if number >= len(self._folders):
            raise Refused(errno.ENOENT)
        act = self._acts.get(operation)
        if act is None:
            raise Refused(errno.ENOSYS)
        return act(number, self._folders[number], Body(data))

    def close(self) -> None:
        for descriptor, _ in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _touch(self, number: int, path: bytes) -> None:
        self.touched.add((number, path))

    def _list(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        skipped, path = body.u32(), body.path()
        with folder.open_folder(path) as opened:
            is_watched = self._watches.add((number, path), opened)
            is_settled = os.fstat(opened).st_mtime_ns < time.time_ns() - SETTLE_NANOSECONDS
            found, count, is_whole = [], 0, True
            with os.scandir(opened) as entries:
                for index, entry in enumerate(entries):
                    if index < skipped:
                        continue
                    if count == PAGE:
                        is_whole = False
                        break
                    name = os.fsencode(entry.name)
                    try:
                        status = os.stat(name, dir_fd=opened, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found.append(pack_attributes(status, folder.device) + pack_text(name))
                    count += 1
        flags = WATCHED * is_watched | MORE * (not is_whole) | SETTLED * is_settled
        return bytes((flags,)) + count.to_bytes(4, "little") + b"".join(found)

    def _stat(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        return self._describe(folder, body.path())

    def _describe(self, folder: SharedFolder, path: bytes) -> bytes:
        return pack_attributes(folder.stat(path), folder.device)

    def _open_file(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        handle, flags, path = body.u32(), body.u32(), body.path()
        return self._open_as(number, folder, handle, path, flags & ~os.O_CREAT, 0)

    def _create_file(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        handle, flags, mode, path = body.u32(), body.u32(), body.u32(), body.path()
        return self._open_as(number, folder, handle, path, flags, mode)

    def _open_as(
        self, number: int, folder: SharedFolder, handle: int, path: bytes, flags: int, mode: int
    ) -> bytes:
        if len(self._open) >= MOST_OPEN:
            raise Refused(errno.EMFILE)
        self._forget_handle(number, handle)
        if flags & (os.O_CREAT | os.O_TRUNC):
            self._touch(number, path)
        opened = folder.open(path, flags, mode)
        self._open[number, handle] = opened, path
        status = os.fstat(opened)
        content = b""
        if flags & WANT_CONTENT and status.st_size <= SMALL_FILE:
            content = os.pread(opened, SMALL_FILE, 0)
        return pack_attributes(status, folder.device) + content

    def _handle(self, number: int, handle: int) -> tuple[int, bytes]:
        try:
            return self._open[number, handle]
        except KeyError:
            raise Refused(errno.EBADF) from None

    def _forget_handle(self, number: int, handle: int) -> None:
        opened = self._open.pop((number, handle), None)
        if opened is not None:
            os.close(opened[0])

    def _read(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        opened, _ = self._handle(number, body.u32())
        offset, size = body.u64(), body.u32()
        return os.pread(opened, min(size, MAX_DATA), _as_offset(offset))

    def _write(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        opened, path = self._handle(number, body.u32())
        offset, data = _as_offset(body.u64()), body.rest()
        self._touch(number, path)
        written = os.pwrite(opened, data, offset)
        return written.to_bytes(4, "little") + pack_attributes(os.fstat(opened), folder.device)

    def _close(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        self._forget_handle(number, body.u32())
        return b""

    def _fsync(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        handle, flags = body.u32(), body.u32()
        if not handle:
            with folder.open_folder(body.path()) as opened:
                os.fsync(opened)
            return b""
        opened, _ = self._handle(number, handle)
        (os.fdatasync if flags & 1 else os.fsync)(opened)
        return b""

    def _allocate(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        opened, path = self._handle(number, body.u32())
        mode, offset, size = body.u32(), _as_offset(body.u64()), _as_offset(body.u64())
        folder.check_writable()
        self._touch(number, path)
        call = _LIBC.fallocate64
        if call(opened, ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(size)) < 0:
            raise Refused(ctypes.get_errno())
        return b""

    def _set_attributes(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        handle, valid, mode, size = body.u32(), body.u32(), body.u32(), _as_offset(body.u64())
        accessed, written, path = body.time(), body.time(), body.path()
        if valid:
            folder.check_writable()
        if handle:
            opened, path = self._handle(number, handle)
            self._touch(number, path)
            self._set(opened, folder, valid, mode, size, accessed, written)
            return pack_attributes(os.fstat(opened), folder.device)
        self._touch(number, path)
        if valid & SET_SIZE:
            opened = folder.open(path, os.O_WRONLY)
            try:
                os.ftruncate(opened, size)
            finally:
                os.close(opened)
        if valid & SET_MODE:
            with folder.pinned(path) as place:
                os.chmod(place, mode & KEPT_MODE)
        if times := _choose_times(valid, accessed, written, folder.stat(path)):
            with folder.above(path) as (parent, name):
                os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
        return self._describe(folder, path)

    def _set(
        self, opened: int, folder: SharedFolder, valid: int, mode: int, size: int, accessed: int, written: int
    ) -> None:
        """For a file that has no name any more."""
        if valid & SET_SIZE:
            os.ftruncate(opened, size)
        if valid & SET_MODE:
            os.fchmod(opened, mode & KEPT_MODE)
        if times := _choose_times(valid, accessed, written, os.fstat(opened)):
            os.utime(opened, ns=times)

    def _make_folder(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        mode, path = body.u32(), body.path()
        folder.check_writable()
        self._touch(number, path)
        with folder.above(path) as (parent, name):
            os.mkdir(name, mode & KEPT_MODE, dir_fd=parent)
        return self._describe(folder, path)

    def _make_node(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        mode, path = body.u32(), body.path()
        self._touch(number, path)
        folder.make_node(path, mode)
        return self._describe(folder, path)

    def _unlink(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        path = body.path()
        folder.check_writable()
        self._touch(number, path)
        with folder.above(path) as (parent, name):
            os.unlink(name, dir_fd=parent)
        return b""

    def _remove_folder(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        path = body.path()
        folder.check_writable()
        self._touch(number, path)
        with folder.above(path) as (parent, name):
            os.rmdir(name, dir_fd=parent)
        self._watches.forget((number, path))
        return b""

    def _rename(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        flags, old, new = body.u32(), body.path(), body.path()
        if not old or not new:
            raise Refused(errno.EBUSY)
        self._touch(number, old)
        self._touch(number, new)
        folder.rename(old, new, flags)
        self._follow_rename((number, old), (number, new), is_exchange=bool(flags & 2))
        return b""

    def _follow_rename(self, old: Place, new: Place, *, is_exchange: bool) -> None:
        """Open files and watched folders by their new paths."""
        if is_exchange:
            self._watches.forget(old)
            self._watches.forget(new)
            return
        self._watches.forget(new)
        self._watches.move(old, new)
        for key, (opened, path) in self._open.items():
            if key[0] == old[0] and (path == old[1] or path.startswith(old[1] + b"/")):
                self._open[key] = opened, new[1] + path[len(old[1]) :]

    def _symlink(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        target, path = body.text(), body.path()
        folder.check_writable()
        self._touch(number, path)
        with folder.above(path) as (parent, name):
            os.symlink(target, name, dir_fd=parent)
        return self._describe(folder, path)

    def _readlink(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        with folder.above(body.path()) as (parent, name):
            return os.readlink(name, dir_fd=parent)

    def _link(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        old, new = body.path(), body.path()
        folder.check_writable()
        self._touch(number, old)
        self._touch(number, new)
        with folder.above(old) as (old_parent, old_name), folder.above(new) as (new_parent, new_name):
            os.link(old_name, new_name, src_dir_fd=old_parent, dst_dir_fd=new_parent, follow_symlinks=False)
        return self._describe(folder, new)

    def _statfs(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        found = os.statvfs(f"/proc/self/fd/{folder.root}")
        numbers = (found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree)
        sizes = (found.f_bsize, found.f_frsize, min(found.f_namemax, 255))
        return b"".join(value.to_bytes(8, "little") for value in numbers) + b"".join(
            value.to_bytes(4, "little") for value in sizes
        )

    def _get_xattr(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        path, name = body.path(), _read_xattr_name(body)
        with folder.pinned(path) as place:
            return os.getxattr(place, name)

    def _set_xattr(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        flags, path, name, value = body.u32(), body.path(), _read_xattr_name(body), body.rest()
        folder.check_writable()
        if len(value) > LONGEST_XATTR:
            raise Refused(errno.E2BIG)
        self._touch(number, path)
        with folder.pinned(path) as place:
            os.setxattr(place, name, value, flags & (os.XATTR_CREATE | os.XATTR_REPLACE))
        return b""

    def _list_xattrs(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        try:
            with folder.pinned(body.path()) as place:
                names = os.listxattr(place)
        except Refused:
            return b""  # a link has none
        return b"".join(os.fsencode(name) + b"\0" for name in names if name.startswith("user."))

    def _remove_xattr(self, number: int, folder: SharedFolder, body: Body) -> bytes:
        path, name = body.path(), _read_xattr_name(body)
        folder.check_writable()
        self._touch(number, path)
        with folder.pinned(path) as place:
            os.removexattr(place, name)
        return b""


def _as_offset(value: int) -> int:
    if value >= 1 << 63:
        raise Refused(errno.EINVAL)
    return value


def _choose_times(valid: int, accessed: int, written: int, before: os.stat_result) -> tuple[int, int] | None:
    if not valid & (SET_ACCESSED | SET_WRITTEN | SET_ACCESSED_NOW | SET_WRITTEN_NOW):
        return None
    now = time.time_ns()
    return (
        now if valid & SET_ACCESSED_NOW else accessed if valid & SET_ACCESSED else before.st_atime_ns,
        now if valid & SET_WRITTEN_NOW else written if valid & SET_WRITTEN else before.st_mtime_ns,
    )


def _read_xattr_name(body: Body) -> str:
    """Those of `user.`: the others carry rights on this host."""
    name = body.text()
    if not name.startswith(b"user.") or len(name) > 255:
        raise Refused(errno.EOPNOTSUPP)
    return os.fsdecode(name)
