# SPDX-License-Identifier: Apache-2.0
"""Writer of cpio archives in the kernel's initramfs form.

The form is "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).

Two programs need it: fledge for initramfs plugins, volantd for the boot archive with a VM's settings. Entries come
out in the order given, padded to four bytes; nothing is read back.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import BinaryIO


def _pad(length: int) -> bytes:
    return b"\0" * (-length % 4)


class CpioWriter:
    """Streams entries to `stream`. Inode numbers count up unless hard links are asked for by `inode`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inode = 0
        self.length_bytes = 0

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.length_bytes += len(data)

    def _header(
        self, name: bytes, mode: int, size: int, uid: int, gid: int, mtime: int, nlink: int, inode: int | None,
        device: tuple[int, int],
    ) -> None:  # fmt: skip
        if inode is None:
            self._inode += 1
            inode = self._inode
        if size > 0xFFFFFFFF:
            raise ValueError(f"{name!r}: {size} bytes do not fit into a cpio archive (4 GiB)")
        major, minor = device
        fields = (
            inode, mode, uid, gid, nlink, max(0, min(mtime, 0xFFFFFFFF)), size, 0, 0, major, minor,
            len(name) + 1, 0,
        )  # fmt: skip
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
        self._write(header + _pad(len(header)))

    def add(
        self, name: bytes, mode: int, data: bytes = b"", *, uid: int = 0, gid: int = 0, mtime: int = 0,
        nlink: int = 1, inode: int | None = None, device: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        """One entry. `name` is relative to the root, without a leading slash; `mode` includes the file type."""
        self._header(name, mode, len(data), uid, gid, mtime, nlink, inode, device)
        self._write(data + _pad(len(data)))

    def add_stream(
        self, name: bytes, mode: int, size: int, chunks: Iterator[bytes], *, uid: int = 0, gid: int = 0,
        mtime: int = 0, nlink: int = 1, inode: int | None = None,
    ) -> None:  # fmt: skip
        """A regular file whose content comes in chunks that sum to `size` bytes."""
        self._header(name, mode, size, uid, gid, mtime, nlink, inode, (0, 0))
        written = 0
        for chunk in chunks:
            self._write(chunk)
            written += len(chunk)
        if written != size:
            raise ValueError(f"{name!r}: {written} bytes where {size} were announced")
        self._write(_pad(size))

    def add_directory(self, name: bytes, permissions: int = 0o755) -> None:
        self.add(name, stat.S_IFDIR | permissions, nlink=2)

    def finish(self) -> None:
        """The trailer, padded so that another archive may follow (the kernel wants four-byte alignment)."""
        self.add(b"TRAILER!!!", 0, inode=0)
        self._write(b"\0" * (-self.length_bytes % 512))
