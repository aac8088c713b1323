# SPDX-License-Identifier: Apache-2.0
"""What the fuzzers run: hostile bytes through a reader, and what must hold whatever the bytes say."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile

from oci_images import make_config, make_entry, make_layer, pack_layout, write_docker_archive, write_layout
from volant.errors import InvalidInput, NotFound
from volant.fledge.filetree import ROOT, FileTree
from volant.fledge.layers import MAX_DEPTH, MAX_NAME_BYTES, LayerMerger, merge_layers
from volant.fledge.sources.archive import open_docker_archive
from volant.fledge.spool import Limits
from volant.fledge.tar import TarError, read_entries
from volant.progress import SilentMonitor

SEPARATOR = b"\x00next layer\x00"
LIMITS = Limits(spool_bytes=8 << 20, entries=50_000)


def mend_checksums(archive: bytes) -> bytes:
    """Put right the sums of all headers, so that changes get past the first check."""
    mended = bytearray(archive)
    for start in range(0, len(mended) - 511, 512):
        if mended[start + 257 : start + 262] == b"ustar":
            mended[start + 148 : start + 156] = b" " * 8
            mended[start + 148 : start + 156] = b"%06o\0 " % sum(mended[start : start + 512])
    return bytes(mended)


def merge_hostile_layers(data: bytes) -> None:
    """Layers, apart from each other by SEPARATOR, through the tar reader and the merger."""
    tree = FileTree()
    merger = LayerMerger(tree, LIMITS.entries)
    lengths = []
    for number, layer in enumerate(data.split(SEPARATOR)[:4]):
        layer = mend_checksums(layer)
        lengths.append(len(layer))
        with TemporaryFile() as file:
            file.write(layer)
            file.flush()
            assert tree.add_source(file.fileno()) == number
            try:
                merger.apply(read_entries(file.fileno(), 0, len(layer)), number)
            except TarError as error:
                assert 0 <= error.offset <= len(layer)
                str(error)
                break
    check_tree(tree, lengths)


def check_tree(tree: FileTree, source_lengths: list[int]) -> None:
    """A tree is a tree, its names fit a file system, and its content lies inside its sources."""
    seen_folders = {ROOT}
    pending = [(ROOT, 0)]
    while pending:
        folder, depth = pending.pop()
        assert depth <= MAX_DEPTH + 1
        for name, node in tree.children[folder].items():
            assert 0 < len(name) <= MAX_NAME_BYTES and b"/" not in name and b"\0" not in name
            assert name not in (b".", b"..")
            assert stat.S_ISDIR(tree.mode[node]) == (node in tree.children)
            assert stat.S_ISLNK(tree.mode[node]) == (node in tree.link_target)
            if node in tree.children:
                assert node not in seen_folders, "a folder with two names"
                seen_folders.add(node)
                pending.append((node, depth + 1))
            end = 0
            for position, source, offset, length in tree.extents(node):
                assert length > 0 and position >= end and 0 <= offset <= source_lengths[source] - length
                end = position + length
            assert end <= tree.size[node] or not end


def open_hostile_archive(data: bytes) -> None:
    """An image archive from its first byte to the merged tree."""
    with NamedTemporaryFile() as file:
        file.write(mend_checksums(data))
        file.flush()
        try:
            with ExitStack() as stack:
                image = open_docker_archive(Path(file.name), stack, limits=LIMITS)
                merge_layers(image, stack, SilentMonitor(), LIMITS)
                image.verify()
        except (InvalidInput, NotFound) as error:
            str(error)


def make_layer_seeds() -> list[bytes]:
    """Layers with one of everything."""
    folder, link, soft = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
    sparse_map = b"2\n0\n5\n1000\n3\n".ljust(512, b"\0")
    first = make_layer(
        make_entry("d", folder, pax={"SCHILY.xattr.user.a": "b", "mtime": "-1.5"}),
        make_entry("d/" + "n" * 120, content=b"x" * 700, uid=3_000_000),
        make_entry("d/s", content=sparse_map + b"12345678", pax={
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "d/s", "GNU.sparse.realsize": "2000"}),
        make_entry("d/t", content=b"12345", pax={"GNU.sparse.map": "0,2,7,3", "GNU.sparse.size": "20"}),
        make_entry("hard", link, link="d/s"), make_entry("soft", soft, link="../d"), make_entry("soft/x"),
        make_entry("dev", tarfile.CHRTYPE, device=(1, 3)),
    )  # fmt: skip
    second = make_layer(
        make_entry("d/.wh..wh..opq"), make_entry(".wh.hard"), make_entry("d", content=b"now a file"),
        make_entry("hard", link, link="dev"), make_entry("l" * 150, soft, link="m" * 150),
        format=tarfile.GNU_FORMAT,
    )  # fmt: skip
    return [first, first + SEPARATOR + second, second + SEPARATOR + first + SEPARATOR + first]


def make_archive_seeds(folder: Path) -> list[bytes]:
    """A docker-archive and OCI archives of every compression."""
    layers = [
        make_layer(make_entry("f", content=b"x" * 600)),
        make_layer(make_entry("g", tarfile.LNKTYPE, link="f")),
    ]
    assert make_config(layers)
    seeds = [write_docker_archive(folder / "docker.tar", layers).read_bytes()]
    for compression in ("plain", "gzip", "zstd"):
        layout = write_layout(folder / compression, layers, compression=compression)
        seeds.append(pack_layout(layout, folder / f"{compression}.tar").read_bytes())
    return seeds


TARGETS: dict[str, Callable[[bytes], None]] = {
    "layers": merge_hostile_layers,
    "archive": open_hostile_archive,
}
