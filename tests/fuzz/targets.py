# SPDX-License-Identifier: Apache-2.0
"""What the fuzzers run: hostile bytes through a reader, and what must hold whatever the bytes say."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory, TemporaryFile

from support.oci_images import (
    make_config,
    make_entry,
    make_layer,
    pack_layout,
    write_docker_archive,
    write_layout,
)
from support.plugin_files import make_plugin
from support.written_plugins import write_plugin_file
from volant.contract import plugin_archive
from volant.contract.image_config import IMAGE_CONFIG_PATH
from volant.contract.manifest import Manifest
from volant.contract.payload_files import Unreadable, list_files, read_file
from volant.contract.plugin_archive import read_plugin_archive
from volant.errors import InvalidInput, NotFound
from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import ROOT, FileTree, Metadata
from volant.fledge.layers import MAX_DEPTH, MAX_NAME_BYTES, LayerMerger, merge_layers
from volant.fledge.plugin_archive import DiskOptions
from volant.fledge.sources.archive import open_docker_archive
from volant.fledge.spool import Limits
from volant.fledge.tar import TarError, read_entries
from volant.fledge.validate import validate_folder
from volant.progress import SilentMonitor

SEPARATOR = b"\x00next layer\x00"
LIMITS = Limits(spool_bytes=8 << 20, entries=50_000)
PLUGIN_LIMITS = plugin_archive.Limits(
    payload_bytes=64 << 20, small_file_bytes=1 << 16, small_files_bytes=1 << 17, entries=16
)


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


def read_hostile_plugin(data: bytes) -> None:
    """A plugin archive as volantd installs it and `fledge inspect` shows it."""
    with TemporaryFile() as payload:
        descriptor = payload.fileno()
        try:
            content = read_plugin_archive(io.BytesIO(mend_checksums(data)), descriptor, limits=PLUGIN_LIMITS)
        except InvalidInput as error:
            str(error)
            return
        declared = content.manifest.rootfs or content.manifest.initramfs
        assert declared is not None and (
            content.manifest.rootfs is None or content.manifest.initramfs is None
        )
        assert sum(map(len, content.files.values())) <= PLUGIN_LIMITS.small_files_bytes
        for name in (content.payload_name, *content.files):
            assert not name.startswith("/") and ".." not in name.split("/")
        if not content.payload_name:
            assert declared.url is not None
            return
        length = os.fstat(descriptor).st_size
        assert length == content.payload_size_bytes <= PLUGIN_LIMITS.payload_bytes
        digest = hashlib.file_digest(payload, "sha256").hexdigest()
        assert content.checksum == declared.checksum == f"sha256:{digest}"
        try:
            assert all(size >= 0 for _, size in list_files(descriptor, content))
            assert len(read_file(descriptor, content, IMAGE_CONFIG_PATH) or b"") <= 1 << 20
        except Unreadable:
            pass


def make_plugin_seeds(folder: Path) -> list[bytes]:
    """Plugins of every form, without the gzip around them, whose sum would hide all that is behind it."""
    tree = FileTree()
    many = tree.add_directory(ROOT, b"many", Metadata(stat.S_IFDIR | 0o755))
    for number in range(400):
        tree.add_file(many, b"file-%d" % number, Metadata(stat.S_IFREG | 0o644), number)
    etc = tree.add_directory(ROOT, b"etc", Metadata(stat.S_IFDIR | 0o755))
    kestrel = tree.add_directory(etc, b"kestrel", Metadata(stat.S_IFDIR | 0o755))
    tree.add_file(kestrel, b"image.json", Metadata(stat.S_IFREG | 0o644), 5000)
    image = plan_ext4(tree, size_bytes=64 << 20)
    seeds = []
    # A manifest without a checksum: any change of the disk would end at it.
    document = json.dumps({"name": "app", "version": "1.0.0"}).encode()
    for options in (DiskOptions(), DiskOptions(compression="zlib")):
        path = folder / "plugin.tar.gz"
        write_plugin_file(path, image, Manifest(name="app", version="1.0.0"), options, SilentMonitor())
        with tarfile.open(path) as archive:
            disk = archive.extractfile("rootfs.qcow2")
            assert disk is not None
            seeds.append(
                make_layer(
                    make_entry("manifest.json", content=document), make_entry("d.qcow2", content=disk.read())
                )
            )
        path.unlink()
    for packed in (
        make_plugin(),
        make_plugin(initramfs={"url": "https://example.org/x"}, openapi="api.json"),
    ):
        seeds.append(gzip.decompress(packed))
    boot_sector = b"\xeb".ljust(510, b"\0") + b"\x55\xaa" + bytes(2000)
    seeded = json.dumps({"name": "app", "version": "1.0.0", "cloud_init": {"user_data": {"path": "u"}}})
    seeds.append(
        make_layer(
            make_entry("./", tarfile.DIRTYPE), make_entry("./rootfs.img", content=boot_sector), make_entry("u" * 120),
            make_entry("manifest.json", content=seeded.encode(), pax={"size": str(len(seeded))}),
        )
    )  # fmt: skip
    return [*seeds, make_plugin()]


def validate_hostile_folder(data: bytes) -> None:
    """A recipe and a Dockerfile, apart from each other by SEPARATOR, as `fledge validate` reads them."""
    recipe, _, dockerfile = data.partition(SEPARATOR)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fledge.toml").write_bytes(recipe)
        (folder / "Dockerfile").write_bytes(dockerfile)
        lines = {
            path.name: path.read_text(encoding="latin-1").count("\n") + 1 for path in sorted(folder.iterdir())
        }
        try:
            problems = validate_folder(folder)
        except InvalidInput as error:
            str(error)
            return
        for problem in problems:
            assert str(problem) and problem.as_json()
            assert 0 <= problem.line <= lines[Path(problem.file).name]


def make_recipe_seeds() -> list[bytes]:
    """The recipes and Dockerfiles of the examples, and one of each with what these don't use."""
    examples = Path(__file__).parents[2] / "examples"
    seeds = [
        recipe.read_bytes() + SEPARATOR + recipe.with_name("Dockerfile").read_bytes()
        for recipe in sorted(examples.glob("*/fledge.toml"))
    ]
    recipe = b"""plugin.name = "x"
plugin . version = '1.0.0-rc.1+5'
plugin.runtime = {type = "oci", disk_size = "20G", target = "last", build_args = {"A B" = "1"}}
[plugin.manifest]
health_check = {endpoint = "/", retries = 2}
disks = [{name = "d", source = "https://example.org/d", readonly = true}]
[plugin.manifest.labels]
"a.b" = '''
many
lines'''
[mappings]
"a" = "/usr/bin/a"
"""
    dockerfile = b"""# escape=`
FROM a/b@sha256:00 AS first
RUN <<EOF
FROM nothing
EOF
FROM --platform=$BUILDPLATFORM first AS last
COPY --from=first --chown=1:1 ["a b", "*.txt", `
  # between
  "/etc/kestrel/"]
EXPOSE 80/tcp 443 $PORT
ONBUILD COPY . /
"""
    return [*seeds, recipe + SEPARATOR + dockerfile]


@dataclass(frozen=True)
class Target:
    """`run` takes one input; `make_seeds` gives sound ones, with a folder for what it has to write."""

    run: Callable[[bytes], None]
    make_seeds: Callable[[Path], list[bytes]]


TARGETS = {
    "layers": Target(merge_hostile_layers, lambda _: make_layer_seeds()),
    "archive": Target(open_hostile_archive, make_archive_seeds),
    "plugin": Target(read_hostile_plugin, make_plugin_seeds),
    "recipe": Target(validate_hostile_folder, lambda _: make_recipe_seeds()),
}
