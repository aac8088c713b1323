# SPDX-License-Identifier: Apache-2.0
"""Step 3 of the line: layers become one tree, by headers and byte ranges, without extracting anything.

The rules are those of the image specification (layer.md) and, where it is silent, what `umoci unpack` and
containerd do on a real file system:

- Names are taken relative to the root whatever they say; `..` never leaves it. A path that leads through a symlink
  is followed inside the root. Parent folders that nobody mentioned are made, root's, mode 0755.
- An entry replaces what is there, except a directory on a directory, which only takes the new owner, mode, time and
  xattrs. So does a path that leads through something that is no directory: it becomes one (umoci since 0.5), and the
  user is told. A hard link is a name of the file that has the target's name at that moment.
- `.wh.NAME` and `.wh..wh..opq` hide what lower layers brought and never what their own layer brings, in whatever
  order the entries stand.

What has no safe meaning is an InvalidInput that names the layer, the entry and its byte offset; if the layer's bytes
turn out to be damaged, that is told instead.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

from volant.errors import InvalidInput
from volant.filesystems.blocks import Origin
from volant.filesystems.filetree import ROOT, Extent, FileTree, Metadata
from volant.fledge.image import Layer, OciImage
from volant.fledge.spool import Limits, SpoolBudget, inflate, open_spool
from volant.fledge.tar import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Note,
    TarEntry,
    TarError,
    read_entries,
)  # fmt: skip
from volant.progress import Monitor

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4095
MAX_DEPTH = 2048
MAX_SYMLINKS = 255
_MOST_WARNINGS = 10
# An entry may carry this much (a link's target, xattrs) before it counts for more than one.
_NOTE_BYTES = 256

_TYPE_BITS = {
    REGULAR: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK, CHARACTER: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO,
}  # fmt: skip
_LINK_BITS = stat.S_IFLNK | 0o777
# First bytes of a path that may need cleaning: `.` of `..`, `/`, and nothing at all.
_ODD_STARTS = (b".", b"/", b"")
_IMPLICIT_DIRECTORY = Metadata(stat.S_IFDIR | 0o755)


class _OpenTar(NamedTuple):
    """The tar of a layer, inflated where it was compressed."""

    descriptor: int
    offset: int
    length: int


class _RefusedError(ValueError):
    """An entry that has no safe meaning; becomes an InvalidInput where layer and entry are known."""


def merge_layers(
    image: OciImage, stack: ExitStack, monitor: Monitor, limits: Limits | None = None
) -> FileTree:
    """Merge all layers of an image. The tree's sources live as long as `stack`.

    Digests are still being checked when this returns: call `image.verify()` before publishing what is made of it.
    Raises InvalidInput or StorageFull.
    """
    limits = limits or Limits()
    tree = FileTree()
    oddities = _Oddities(monitor)
    merger = LayerMerger(tree, limits.entries, oddities.note)
    image.begin_checks()
    inflating = _start_inflating(image, stack, limits)
    monitor.step("merge layers", total=sum(layer.length for layer in image.layers))
    for number, layer in enumerate(image.layers, start=1):
        future = inflating.get(layer.diff_id)
        tar = future.result() if future else _OpenTar(layer.descriptor, layer.offset, layer.length)
        origin = Origin(tar.descriptor, tar.offset, tar.length, layer.diff_id)
        source = tree.add_source(tar.descriptor, origin)
        oddities.layer = image.describe_layer(number)
        try:
            merger.apply(read_entries(tar.descriptor, tar.offset, tar.length, oddities.note), source)
        except TarError as error:
            image.checks.verify_only(oddities.layer)
            raise InvalidInput(
                f"cannot read {oddities.layer}: {error}",
                resolution="save the image again, or rebuild it",
            ) from error
        monitor.advance(layer.length)
    oddities.close()
    return tree


class _Oddities:
    """Warns of what was read all the same though it should not be so; of the first few, and how many there were."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._count = 0
        self.layer = ""

    def note(self, reason: str, name: bytes, offset: int) -> None:
        self._count += 1
        if self._count <= _MOST_WARNINGS:
            self._monitor.warn(f"{self.layer}: {TarError(reason, name, offset)}")

    def close(self) -> None:
        if self._count > _MOST_WARNINGS:
            self._monitor.warn(f"{self._count - _MOST_WARNINGS} further entries of the image are odd as well")


def verify_stored(image: OciImage, monitor: Monitor) -> bool:
    """Check the layers of an image as they are stored. Raises InvalidInput; False where only inflating would tell."""
    monitor.step("check layers")
    for number, layer in enumerate(image.layers, start=1):
        if not layer.digest and image.find_compression(number) != "plain":
            return False
    image.begin_checks()
    image.verify()
    return True


def _start_inflating(image: OciImage, stack: ExitStack, limits: Limits) -> dict[str, Future[_OpenTar]]:
    """Begin to inflate every compressed layer once; by diff id."""
    wanted: dict[str, tuple[str, str, Layer, int]] = {}
    for number, layer in enumerate(image.layers, start=1):
        compression = image.find_compression(number)
        if compression != "plain" and layer.diff_id not in wanted:
            wanted[layer.diff_id] = (image.describe_layer(number), compression, layer, open_spool(stack))
    if not wanted:
        return {}
    budget = SpoolBudget(limits.spool_bytes)
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "inflate")
    # After the spools, so that the stack ends the threads before it closes the descriptors that they write to.
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)
    stack.callback(budget.stop)
    return {diff_id: pool.submit(_inflate_layer, *order, budget) for diff_id, order in wanted.items()}


def _inflate_layer(what: str, compression: str, layer: Layer, spool: int, budget: SpoolBudget) -> _OpenTar:
    length = inflate(
        what, compression, layer.descriptor, layer.offset, layer.length,
        diff_id=layer.diff_id, spool=spool, budget=budget,
    )  # fmt: skip
    return _OpenTar(spool, 0, length)


class LayerMerger:
    """Puts one layer after the other on top of a tree.

    A name is *upper* when the layer that is being applied brought it or something below it: its node is newer than
    the layer's start, or an older directory that was touched, or a hard link made to an older node. Whiteouts spare
    upper names, which makes them independent of their place in the layer.
    """

    def __init__(self, tree: FileTree, max_entries: int = 8_000_000, note: Note | None = None) -> None:
        self._tree = tree
        self._note = note
        self._entries_left = max_entries
        self._layer_start = 0
        self._touched: set[int] = set()
        self._links: set[tuple[int, bytes]] = set()
        # Folders of lower layers in which nothing lower is left.
        self._cleared: set[int] = set()

    def apply(self, entries: Iterable[TarEntry], source: int) -> None:
        """Apply the entries of one layer; their content lies in the tree's source number `source`."""
        tree = self._tree
        all_children = tree.children
        self._layer_start = len(tree.mode)
        self._touched = {ROOT}
        self._links = set()
        self._cleared = set()
        # The parent of the entry before, by the spelling of its path: entries of one folder come together.
        parent_path: bytes | None = None
        parent, siblings = ROOT, all_children[ROOT]
        entries_left, new_tuple = self._entries_left, tuple.__new__
        for entry in entries:
            (
                name,
                kind,
                mode,
                uid,
                gid,
                size,
                mtime,
                nanoseconds,
                link,
                major,
                minor,
                offset,
                _,
                xattrs,
                pieces,
            ) = entry
            entries_left -= 1
            if pieces or xattrs or len(link) > _NOTE_BYTES:
                entries_left -= _count_extra(entry)
            try:
                if entries_left < 0:
                    raise _RefusedError("the image has too many files")
                if name[:2] == b"./":
                    name = name[2:]
                name = name.rstrip(b"/")
                if b"/." in name or b"//" in name or name[:1] in _ODD_STARTS:
                    name = clean_path(name)
                folder, _, name = name.rpartition(b"/")
                if name[:4] == WHITEOUT_PREFIX:
                    self._apply_whiteout(folder, name)
                    parent_path = None
                    continue
                if folder != parent_path:
                    parent = self._make_parent(folder, entry)
                    siblings = all_children[parent]
                    parent_path = folder
                if len(name) > MAX_NAME_BYTES:
                    raise _RefusedError(f"its name of {len(name)} bytes is longer than a file system allows")
                existing = siblings.get(name)
                if existing is not None and (existing in all_children or existing in tree.link_target):
                    # What paths lead through may be about to change.
                    parent_path = None
                if kind == HARD_LINK:
                    self._link(parent, name, existing, link)
                    continue
                # Linux has no mode of a symlink: every one reads as 0777.
                bits = _LINK_BITS if kind == SYMLINK else _TYPE_BITS[kind] | mode
                metadata = new_tuple(Metadata, (bits, uid, gid, mtime, nanoseconds, xattrs))
                if not name:
                    if kind != DIRECTORY:
                        raise _RefusedError("it would replace the root directory")
                    tree.set_metadata(ROOT, metadata)
                    continue
                if existing is not None:
                    if kind == DIRECTORY and existing in all_children:
                        tree.set_metadata(existing, metadata)
                        self._touched.add(existing)
                        continue
                    tree.remove(parent, name)
                if kind == REGULAR:
                    sparse = None
                    if pieces is not None:
                        sparse = tuple(Extent(at, source, start, length) for at, start, length in pieces)
                    tree.add_file(parent, name, metadata, size, source, offset, sparse)
                elif kind == DIRECTORY:
                    tree.add_directory(parent, name, metadata)
                elif kind == SYMLINK:
                    if not 0 < len(link) <= MAX_PATH_BYTES:
                        raise _RefusedError(f"its target of {len(link)} bytes is no path")
                    tree.add_symlink(parent, name, metadata, link)
                else:
                    tree.add_special(parent, name, metadata, major, minor)
            except _RefusedError as error:
                raise TarError(str(error), entry.name, entry.header_offset) from None
        self._entries_left = entries_left

    def _link(self, parent: int, name: bytes, existing: int | None, link: bytes) -> None:
        """Make a hard link in place of what has its name."""
        if not name:
            raise _RefusedError("it would replace the root directory")
        target = self._find_link_target(link)
        if target < self._layer_start:
            self._links.add((parent, name))
        if target == existing:
            return
        if existing is not None:
            if self._is_below(target, existing):
                raise _RefusedError("it is a hard link to a file below the directory that it replaces")
            self._tree.remove(parent, name)
        self._tree.add_link(parent, name, target)

    # -- paths --------------------------------------------------------------------------------------------------

    def _resolve(self, path: bytes) -> list[tuple[bytes, int | None]]:
        """The (name, node) steps from the root to a cleaned path, symlinks followed inside the root.

        A step that does not exist has no node; neither have those below it.
        """
        tree = self._tree
        if len(path) > MAX_PATH_BYTES:
            raise _RefusedError(f"its path of {len(path)} bytes is longer than a file system allows")
        steps: list[tuple[bytes, int | None]] = []
        pending = path.split(b"/")[::-1] if path else []
        symlinks = 0
        while pending:
            part = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if steps:
                    steps.pop()
                continue
            above = steps[-1][1] if steps else ROOT
            node = tree.children[above].get(part) if above is not None and above in tree.children else None
            target = tree.link_target.get(node) if node is not None else None
            if target is None:
                steps.append((part, node))
                if len(steps) > MAX_DEPTH:
                    raise _RefusedError("it is too many directories deep")
                continue
            symlinks += 1
            if symlinks > MAX_SYMLINKS:
                raise _RefusedError("its path leads through a loop of symlinks")
            if target.startswith(b"/"):
                steps.clear()
            pending.extend(target.split(b"/")[::-1])
        return steps

    def _make_parent(self, folder: bytes, entry: TarEntry) -> int:
        """The directory at a path, made with those above it where missing, all marked as touched."""
        tree = self._tree
        parent = ROOT
        steps = self._resolve(folder)
        if sum(len(name) + 1 for name, _ in steps) > MAX_PATH_BYTES:
            raise _RefusedError("its path, symlinks followed, is longer than a file system allows")
        for name, node in steps:
            if node is None:
                if len(name) > MAX_NAME_BYTES:
                    raise _RefusedError(
                        f"a directory name of {len(name)} bytes is longer than a file system allows"
                    )
                if name in tree.children[parent]:
                    raise _RefusedError(f"its parent {show(name)} is not a directory")
                node = tree.add_directory(parent, name, _IMPLICIT_DIRECTORY)
            elif node not in tree.children:
                if self._note is not None:
                    reason = f"its parent {show(name)} was not a directory, and was replaced by one"
                    self._note(reason, entry.name, entry.header_offset)
                tree.remove(parent, name)
                node = tree.add_directory(parent, name, _IMPLICIT_DIRECTORY)
            if node < self._layer_start:
                self._touched.add(node)
            parent = node
        return parent

    def _find_directory(self, folder: bytes) -> int | None:
        steps = self._resolve(folder)
        node = steps[-1][1] if steps else ROOT
        return node if node is not None and node in self._tree.children else None

    def _find_link_target(self, link: bytes) -> int:
        folder, _, name = clean_path(link).rpartition(b"/")
        parent = self._find_directory(folder)
        node = self._tree.children[parent].get(name) if parent is not None else None
        if node is None:
            raise _RefusedError(f"it is a hard link to {show(link)}, which does not exist")
        if node in self._tree.children:
            raise _RefusedError(f"it is a hard link to {show(link)}, which is a directory")
        return node

    def _is_below(self, target: int, directory: int) -> bool:
        """Whether the only names of `target` vanish with `directory`: nothing is left to link to then."""
        tree = self._tree
        if directory not in tree.children:
            return False
        pending = [directory]
        while pending:
            for child in tree.children[pending.pop()].values():
                if child == target:
                    return True
                if child in tree.children:
                    pending.append(child)
        return False

    # -- whiteouts ----------------------------------------------------------------------------------------------

    def _apply_whiteout(self, folder: bytes, name: bytes) -> None:
        """Hide what lower layers have at a path."""
        hidden = name[len(WHITEOUT_PREFIX) :]
        if name != OPAQUE_NAME and hidden.startswith(WHITEOUT_PREFIX):
            # Files that aufs kept for itself.
            return
        if hidden in (b"", b".", b".."):
            raise _RefusedError("it is a whiteout of nothing")
        parent = self._find_directory(folder)
        if parent is None:
            return
        if name == OPAQUE_NAME:
            if parent not in self._cleared and parent < self._layer_start:
                self._cleared.add(parent)
                self._remove_lower(parent, list(self._tree.children[parent]))
        elif hidden in self._tree.children[parent]:
            self._remove_lower(parent, [hidden])

    def _remove_lower(self, parent: int, names: list[bytes]) -> None:
        tree = self._tree
        pending = [(parent, name) for name in names]
        while pending:
            above, name = pending.pop()
            node = tree.children[above][name]
            if node >= self._layer_start or (above, name) in self._links:
                continue
            if node in self._touched:
                if node not in self._cleared:
                    self._cleared.add(node)
                    pending.extend((node, child) for child in tree.children[node])
            else:
                tree.remove(above, name)


def clean_path(path: bytes) -> bytes:
    """A path relative to the root: without empty parts and `.`, with `..` taken back, never above the root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _count_extra(entry: TarEntry) -> int:
    """How many entries more an entry counts for, by the memory that it takes."""
    noted = len(entry.link) + sum(len(name) + len(value) for name, value in entry.xattrs)
    return noted // _NOTE_BYTES + (len(entry.sparse) if entry.sparse else 0)


def show(name: bytes) -> str:
    """A name for an error message."""
    return repr(name[:200].decode("utf-8", "backslashreplace"))
