# SPDX-License-Identifier: Apache-2.0
"""Files of this machine (and bytes made here) → nodes of a tree: [mappings], a build script's rootfs/, the agent.

Owners become root and times one given stamp, because what a checkout leaves in them differs between
machines. The content is copied into one unlinked spool: a folder of ten thousand files must not cost ten
thousand descriptors.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from volant.errors import InvalidInput
from volant.filesystems.filetree import ROOT, FileTree, Metadata
from volant.fledge.spool import open_spool

MAX_SYMLINKS = 40
CHUNK_BYTES = 1 << 20
BIN_FOLDERS = (b"bin", b"sbin")


class LocalFiles:
    """Puts local content into a tree. The spool lives as long as `stack`."""

    def __init__(self, tree: FileTree, stack: ExitStack, stamp: int) -> None:
        self._tree = tree
        self._stack = stack
        self._stamp = stamp
        self._spool = open_spool(stack)
        self._source = tree.add_source(self._spool)
        self._end = 0

    def metadata(self, mode: int) -> Metadata:
        return Metadata(mode, mtime=self._stamp)

    def add_bytes(self, path: str, data: bytes, permissions: int = 0o644) -> None:
        """A file made here; whatever has its name is replaced, folders on the way are made."""
        folder, name = self._place(path)
        self._add_range(folder, name, permissions, self._append(data, self._end))

    def add_open_file(self, path: str, local: Path, permissions: int) -> None:
        """One file of this installation, without a copy: it stays open, and whoever upgrades replaces it by another."""
        descriptor = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
        self._stack.callback(os.close, descriptor)
        folder, name = self._place(path)
        self._drop(folder, name)
        size = os.fstat(descriptor).st_size
        metadata = self.metadata(stat.S_IFREG | permissions)
        self._tree.add_file(folder, name, metadata, size, self._tree.add_source(descriptor), 0)

    def add_local(self, local: Path, path: str) -> None:
        """A mapping: a file to a file (or into a folder named with a final slash), a folder over a folder."""
        if local.is_dir():
            self.add_folder(local, find_folder(self._tree, path, self.metadata(stat.S_IFDIR | 0o755)))
            return
        if path.endswith("/"):
            path += local.name
        folder, name = self._place(path)
        in_bin = any(part in BIN_FOLDERS for part in os.fsencode(path).split(b"/")[:-1])
        self._add_file(local, folder, name, in_bin=in_bin)

    def add_folder(self, local: Path, folder: int, *, in_bin: bool = False, keep_modes: bool = False) -> None:
        """All below a local folder, over what `folder` of the tree already holds."""
        with os.scandir(local) as listing:
            entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            name = os.fsencode(entry.name)
            path = Path(entry.path)
            if entry.is_symlink():
                self._drop(folder, name)
                target = os.fsencode(os.readlink(path))
                self._tree.add_symlink(folder, name, self.metadata(stat.S_IFLNK | 0o777), target)
            elif entry.is_dir():
                permissions = stat.S_IMODE(path.stat().st_mode) if keep_modes else 0o755
                below = self._tree.children[folder].get(name)
                if below is None or not self._tree.is_directory(below):
                    self._drop(folder, name)
                    below = self._tree.add_directory(folder, name, self.metadata(stat.S_IFDIR | permissions))
                self.add_folder(path, below, in_bin=in_bin or name in BIN_FOLDERS, keep_modes=keep_modes)
            elif entry.is_file():
                self._add_file(path, folder, name, in_bin=in_bin, keep_mode=keep_modes)
            else:
                raise InvalidInput(
                    f"cannot take {path} into the plugin: not a file, folder or symbolic link",
                    resolution="leave it out of the mapped folder",
                )

    def _add_file(
        self, local: Path, folder: int, name: bytes, *, in_bin: bool, keep_mode: bool = False
    ) -> None:
        size = 0
        try:
            with local.open("rb") as stream:
                mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
                while data := stream.read(CHUNK_BYTES):
                    size += self._append(data, self._end + size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InvalidInput(f"cannot read {local}: {error.strerror}") from error
        executable = in_bin or mode & 0o100
        self._add_range(folder, name, mode if keep_mode else 0o755 if executable else 0o644, size)

    def _append(self, data: bytes, position: int) -> int:
        with memoryview(data) as rest:
            written = 0
            while written < len(data):
                written += os.pwrite(self._spool, rest[written:], position + written)
        return written

    def _add_range(self, folder: int, name: bytes, permissions: int, size: int) -> None:
        self._drop(folder, name)
        metadata = self.metadata(stat.S_IFREG | permissions)
        self._tree.add_file(folder, name, metadata, size, self._source, self._end)
        self._end += size

    def _place(self, path: str) -> tuple[int, bytes]:
        parent, _, name = path.rstrip("/").rpartition("/")
        return find_folder(self._tree, parent, self.metadata(stat.S_IFDIR | 0o755)), os.fsencode(name)

    def _drop(self, folder: int, name: bytes) -> None:
        if name in self._tree.children[folder]:
            self._tree.remove(folder, name)


def find_folder(tree: FileTree, path: str | bytes, missing: Metadata) -> int:
    """The directory at a path, symlinks followed as a process in the guest would, made where there is none."""
    pending = [part for part in os.fsencode(path).split(b"/") if part]
    trail = [ROOT]
    links = 0
    while pending:
        part = pending.pop(0)
        if part == b".":
            continue
        if part == b"..":
            trail = trail[:-1] or [ROOT]
            continue
        node = tree.children[trail[-1]].get(part)
        if node is None:
            node = tree.add_directory(trail[-1], part, missing)
        elif node in tree.link_target:
            links += 1
            if links > MAX_SYMLINKS:
                raise InvalidInput(
                    f"cannot follow {os.fsdecode(path)} in the image: symbolic links in a loop"
                )
            target = tree.link_target[node]
            trail = [ROOT] if target.startswith(b"/") else trail
            pending = [step for step in target.split(b"/") if step] + pending
            continue
        elif not tree.is_directory(node):
            shown = os.fsdecode(part)
            raise InvalidInput(
                f"cannot make folder {os.fsdecode(path)} in the image: {shown} is a file there"
            )
        trail.append(node)
    return trail[-1]


def find_file(tree: FileTree, path: str) -> int | None:
    """The node at a path, symlinks followed inside the tree; None where there is none."""
    pending = [part for part in os.fsencode(path).split(b"/") if part]
    trail = [ROOT]
    links = 0
    while pending:
        part = pending.pop(0)
        if part in (b".", b".."):
            trail = trail[:-1] or [ROOT] if part == b".." else trail
            continue
        node = tree.children.get(trail[-1], {}).get(part)
        if node is None:
            return None
        if node in tree.link_target:
            links += 1
            if links > MAX_SYMLINKS:
                return None
            target = tree.link_target[node]
            trail = [ROOT] if target.startswith(b"/") else trail
            pending = [step for step in target.split(b"/") if step] + pending
            continue
        trail.append(node)
    return trail[-1]


def digest_local(local: Path) -> str:
    """Digest of what a mapping would bring: names, kinds, whether executable, content."""
    digest = hashlib.sha256()
    for path in _walk(local):
        status = path.lstat()
        name = os.fsencode(path.relative_to(local))
        if stat.S_ISLNK(status.st_mode):
            digest.update(b"l %s %s\0" % (name, os.fsencode(os.readlink(path))))
        elif stat.S_ISREG(status.st_mode):
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            digest.update(b"f %s %o %s\0" % (name, status.st_mode & 0o7777, content))
        else:
            digest.update(b"d %s %o\0" % (name, status.st_mode & 0o7777))
    return digest.hexdigest()


def _walk(local: Path) -> Iterator[Path]:
    yield local
    if local.is_dir() and not local.is_symlink():
        yield from sorted(local.rglob("*"), key=os.fsencode)
