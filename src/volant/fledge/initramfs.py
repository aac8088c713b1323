# SPDX-License-Identifier: Apache-2.0
"""The branch of the line for plugins that live in RAM: a tree → initramfs.cpio.gz.

The kernel unpacks a plugin's archive first and volant's own boot archive over it, so that /init is always the
agent that the host brings; the one in here serves whoever boots the archive by hand.
"""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from volant.contract.image_config import AGENT_PATH
from volant.cpio import CpioWriter
from volant.errors import InvalidInput, NotFound
from volant.filesystems.filetree import ROOT, FileTree, Metadata
from volant.fledge.local_files import LocalFiles
from volant.fledge.spool import open_spool
from volant.output_file import show_path
from volant.process import run_tool
from volant.progress import Monitor

CHUNK_BYTES = 1 << 20
SCRIPT_TREE = "rootfs"
SCRIPT_ARCHIVE = "initramfs.cpio.gz"


def make_initramfs(tree: FileTree, stack: ExitStack, monitor: Monitor, prefix: Path | None = None) -> int:
    """Write the archive into an unlinked file and return its descriptor. `prefix`: an archive to go before."""
    if b"init" not in tree.children[ROOT]:
        tree.add_symlink(ROOT, b"init", Metadata(stat.S_IFLNK | 0o777), AGENT_PATH.encode())
    if any(tree.xattrs.values()):
        monitor.warn("an initramfs holds no extended attributes: file capabilities of the image are lost")
    descriptor = open_spool(stack)
    with os.fdopen(os.dup(descriptor), "wb") as spool:
        if prefix is not None:
            spool.write(prefix.read_bytes())
            # The kernel looks for the next archive at a multiple of four.
            spool.write(b"\0" * (-spool.tell() % 4))
        monitor.step("pack initramfs", sum(tree.size))
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=spool, mtime=0) as stream:
            write_cpio(tree, stream, monitor)  # type: ignore[arg-type]  # GzipFile is a BinaryIO in all but name
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def write_cpio(tree: FileTree, stream: BinaryIO, monitor: Monitor) -> None:
    """Every entry of a tree in the order of `walk`; the first name of a hard-linked file carries the content."""
    writer = CpioWriter(stream)
    links = tree.count_links()
    # The writer counts inodes up from 1; those that several names share are numbered from the other end.
    inodes = {node: 0xFFFFFFFF - number for number, node in enumerate(links)}
    written: set[int] = set()
    for path, node in tree.walk():
        name = path or b"."
        mode, mtime = tree.mode[node], tree.mtime[node]
        owner = {"uid": tree.uid[node], "gid": tree.gid[node], "mtime": mtime}
        shared = {"nlink": links.get(node, 2 if tree.is_directory(node) else 1), "inode": inodes.get(node)}
        size = tree.size[node]
        try:
            if stat.S_ISREG(mode) and size and node not in written:
                writer.add_stream(name, mode, size, _content(tree, node, monitor), **owner, **shared)  # type: ignore[arg-type]  # keyword sets of ints
            else:
                data = tree.link_target.get(node, b"")
                device = (tree.rdev_major[node], tree.rdev_minor[node])
                writer.add(name, mode, data, device=device, **owner, **shared)  # type: ignore[arg-type]  # as above
        except ValueError as error:
            raise InvalidInput(
                f"cannot pack the initramfs: {error}", resolution='use type = "oci" for content of this size'
            ) from error
        written.add(node)
    writer.finish()


def _content(tree: FileTree, node: int, monitor: Monitor) -> Iterator[bytes]:
    position = 0
    for start, source, offset, length in tree.extents(node):
        yield from _zeros(start - position)
        position = start
        while position < start + length:
            take = min(CHUNK_BYTES, start + length - position)
            data = os.pread(tree.sources[source], take, offset + position - start)
            if not data:
                raise InvalidInput("cannot pack the initramfs: a layer ended early")
            position += len(data)
            monitor.advance(len(data))
            yield data
    yield from _zeros(tree.size[node] - position)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        take = min(count, CHUNK_BYTES)
        yield b"\0" * take
        count -= take


def run_build_script(script: Path, monitor: Monitor) -> tuple[Path | None, Path | None]:
    """Run a recipe's build script in its folder; returns the rootfs folder and the archive that it left."""
    if not script.is_file():
        raise NotFound(f"cannot run build script {show_path(script)}: no such file")
    folder = script.parent
    monitor.step(f"run {show_path(script)}")
    place = str(script.absolute())
    command = [place] if os.access(script, os.X_OK) else ["/bin/sh", place]
    run_tool(
        command, cwd=folder, on_line=lambda line: monitor.say(f"  {line}"), what=f"run {show_path(script)}"
    )
    tree, archive = folder / SCRIPT_TREE, folder / SCRIPT_ARCHIVE
    if not tree.is_dir() and not archive.is_file():
        raise InvalidInput(
            f"cannot build the initramfs: {show_path(script)} left neither {SCRIPT_TREE}/ nor {SCRIPT_ARCHIVE}",
            resolution=f"make it create one of them in {show_path(folder)}",
        )
    return (tree if tree.is_dir() else None), (archive if archive.is_file() else None)


def read_folder(folder: Path, stack: ExitStack, stamp: int) -> FileTree:
    """The tree of a local folder, owned by root, modes kept."""
    tree = FileTree(Metadata(stat.S_IFDIR | 0o755, mtime=stamp))
    LocalFiles(tree, stack, stamp).add_folder(folder, ROOT, keep_modes=True)
    return tree
