# SPDX-License-Identifier: Apache-2.0
"""The merged file tree of an image: metadata in columns, content as byte ranges of open files.

A million files must fit into a few hundred MiB, so a node is an int and its fields live in typed arrays; only names,
links and xattrs are Python objects. Nothing of a file's content is in memory: it is an Extent of a source, a file
descriptor that stays open as long as the tree (a layer's tar, an unlinked spool of an inflated layer, a local file).
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from volant.filesystems.blocks import Origin

ROOT = 0
Xattrs = tuple[tuple[bytes, bytes], ...]


class Extent(NamedTuple):
    """`length` bytes at `offset` of source number `source` are the file's content from `position` on."""

    position: int
    source: int
    offset: int
    length: int


class Metadata(NamedTuple):
    """What an inode says of itself. `mode` has the type bits; mtime in whole seconds (any sign) and nanoseconds."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    mtime_nanoseconds: int = 0
    xattrs: Xattrs = ()


class _FewNumbers(dict[int, int]):
    """A column in which nearly every node has 0: only the others are kept."""

    def __missing__(self, node: int) -> int:
        return 0


class FileTree:
    """A tree of nodes; node 0 is the root directory. Hard links are several names of one node.

    Columns are indexed by node. A node that lost its last name stays in the columns and is simply not reached.
    `children[node]` maps names (bytes, no slash) to nodes and exists for every directory.
    """

    def __init__(self, root: Metadata | None = None) -> None:
        self.sources: list[int] = []
        self.source_starts: list[int] = []
        self.origins: list[Origin] = []
        self.mode = array("I")
        self.uid = array("I")
        self.gid = array("I")
        self.mtime = array("q")
        self.mtime_nanoseconds = array("I")
        self.size = array("Q")
        self.rdev_major = _FewNumbers()
        self.rdev_minor = _FewNumbers()
        # Content of a regular file in one piece, the usual case; -1: none, or several pieces in `sparse`.
        self.data_source = array("i")
        self.data_offset = array("Q")
        self.sparse: dict[int, tuple[Extent, ...]] = {}
        self.xattrs: dict[int, Xattrs] = {}
        self._known_xattrs: dict[Xattrs, Xattrs] = {}
        self.link_target: dict[int, bytes] = {}
        self.children: dict[int, dict[bytes, int]] = {}
        self._add_node(root or Metadata(stat.S_IFDIR | 0o755))
        self.children[ROOT] = {}

    # -- building -----------------------------------------------------------------------------------------------

    def add_source(self, descriptor: int, origin: Origin | None = None) -> int:
        """Register an open, seekable file descriptor; the tree does not close it. Returns the source's number.

        Where one descriptor holds several layers each is a source: their order is the image's, not the archive's.
        """
        self.sources.append(descriptor)
        self.source_starts.append(origin.offset if origin is not None else 0)
        if origin is not None:
            self.origins.append(origin)
        return len(self.sources) - 1

    def _add_node(self, metadata: Metadata, size: int = 0, source: int = -1, offset: int = 0) -> int:
        mode, uid, gid, mtime, nanoseconds, xattrs = metadata
        node = len(self.mode)
        self.mode.append(mode)
        self.uid.append(uid)
        self.gid.append(gid)
        self.mtime.append(mtime)
        self.mtime_nanoseconds.append(nanoseconds)
        self.size.append(size)
        self.data_source.append(source)
        self.data_offset.append(offset)
        if xattrs:
            # Whole images carry the same label on every file.
            self.xattrs[node] = self._known_xattrs.setdefault(xattrs, xattrs)
        return node

    def set_metadata(self, node: int, metadata: Metadata) -> None:
        """Replace owner, mode, time and xattrs of a node in place (a directory repeated by a later layer)."""
        self.mode[node] = metadata.mode
        self.uid[node] = metadata.uid
        self.gid[node] = metadata.gid
        self.mtime[node] = metadata.mtime
        self.mtime_nanoseconds[node] = metadata.mtime_nanoseconds
        if metadata.xattrs:
            self.xattrs[node] = metadata.xattrs
        else:
            self.xattrs.pop(node, None)

    def add_directory(self, parent: int, name: bytes, metadata: Metadata) -> int:
        node = self._add_node(metadata)
        self.children[node] = {}
        self.children[parent][name] = node
        return node

    def add_file(
        self, parent: int, name: bytes, metadata: Metadata, size: int, source: int = -1, offset: int = 0,
        sparse: tuple[Extent, ...] | None = None,
    ) -> int:  # fmt: skip
        """A regular file of `size` bytes: one range of a source, or the pieces of `sparse` with holes between."""
        if sparse is not None:
            node = self._add_node(metadata, size)
            self.sparse[node] = sparse
        elif size:
            node = self._add_node(metadata, size, source, offset)
        else:
            node = self._add_node(metadata)
        self.children[parent][name] = node
        return node

    def add_symlink(self, parent: int, name: bytes, metadata: Metadata, target: bytes) -> int:
        node = self._add_node(metadata, len(target))
        self.link_target[node] = target
        self.children[parent][name] = node
        return node

    def add_special(
        self, parent: int, name: bytes, metadata: Metadata, major: int = 0, minor: int = 0
    ) -> int:
        """A device node, FIFO or socket."""
        node = self._add_node(metadata)
        if major or minor:
            self.rdev_major[node] = major
            self.rdev_minor[node] = minor
        self.children[parent][name] = node
        return node

    def add_link(self, parent: int, name: bytes, node: int) -> None:
        """Another name of a node that is not a directory."""
        self.children[parent][name] = node

    def remove(self, parent: int, name: bytes) -> None:
        """Take a name away, with everything below it where it is a directory."""
        node = self.children[parent].pop(name)
        pending = [node]
        while pending:
            below = self.children.pop(pending.pop(), None)
            if below:
                pending.extend(child for child in below.values() if child in self.children)

    # -- reading ------------------------------------------------------------------------------------------------

    def is_directory(self, node: int) -> bool:
        return node in self.children

    def extents(self, node: int) -> tuple[Extent, ...]:
        """Content of a regular file as ascending pieces; gaps and the rest up to `size` are zeros."""
        pieces = self.sparse.get(node)
        if pieces is not None:
            return pieces
        source = self.data_source[node]
        if source < 0:
            return ()
        return (Extent(0, source, self.data_offset[node], self.size[node]),)

    def find(self, path: bytes | str) -> int | None:
        """The node at an absolute path, without following symlinks; None where there is none."""
        node = ROOT
        for part in os.fsencode(path).split(b"/"):
            if not part:
                continue
            found = self.children.get(node, {}).get(part)
            if found is None:
                return None
            node = found
        return node

    def read(self, node: int, limit: int = 1 << 24) -> bytes:
        """Content of a small regular file (at most `limit` bytes of it)."""
        content = bytearray(min(self.size[node], limit))
        for position, source, offset, length in self.extents(node):
            take = min(length, len(content) - position)
            if take > 0:
                content[position : position + take] = os.pread(self.sources[source], take, offset)
        return bytes(content)

    def walk(self) -> Iterator[tuple[bytes, int]]:
        """Every (path without leading slash, node), parents first, names in byte order; the root is b""."""
        yield b"", ROOT
        # Names of one folder a level, not paths: a folder may have a million of them.
        levels: list[tuple[bytes, Mapping[bytes, int], Iterator[bytes]]] = []
        below: Mapping[bytes, int] | None = self.children[ROOT]
        prefix = b""
        while True:
            if below:
                levels.append((prefix, below, iter(sorted(below))))
            if not levels:
                return
            prefix, siblings, names = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                below = None
                continue
            node = siblings[name]
            path = prefix + name
            yield path, node
            below = self.children.get(node)
            prefix = path + b"/"

    def count_links(self) -> dict[int, int]:
        """Names of each reachable node that is not a directory, only where there are several."""
        seen: dict[int, int] = {}
        several: dict[int, int] = {}
        for below in self.children.values():
            for child in below.values():
                if child in self.children:
                    continue
                if child in seen:
                    several[child] = several.get(child, 1) + 1
                else:
                    seen[child] = 1
        return several
