# SPDX-License-Identifier: Apache-2.0
"""Random layers, merged by us and unpacked by umoci, must be the same tree: types, owners, modes, times, xattrs,
link targets, hard-link groups, device numbers and content."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import tarfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from support.folder_records import Record, can_mount, read_folder, read_mounted
from support.oci_images import make_entry, make_layer, write_layout
from support.odd_tar import ODD_LAYERS
from volant.errors import InvalidInput
from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import FileTree
from volant.fledge.layers import LayerMerger, merge_layers
from volant.fledge.raw import write_raw
from volant.fledge.sources.archive import open_oci_layout
from volant.fledge.tar import TarError, read_entries
from volant.progress import SilentMonitor

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("umoci") is None, reason="umoci gives files their owners only as root"
)

NAMES = ("a", "b", "c", "d", "e\udcff", "ü", ".h", "n" * 110)
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".decode()


def make_random_layers(seed: int) -> list[bytes]:
    """Layers whose names collide often: files become directories and back, links lead everywhere, whiteouts hit."""
    chosen = random.Random(seed)
    known: list[str] = []
    layers: list[bytes] = []
    for _ in range(chosen.randint(1, 5)):
        entries: list[tuple[tarfile.TarInfo, bytes]] = []
        for _ in range(chosen.randint(1, 14)):
            folder = "/".join(chosen.choice(NAMES) for _ in range(chosen.choice((0, 0, 1, 1, 2, 3))))
            if known and chosen.random() < 0.4:
                folder = chosen.choice(known)
            path = f"{folder}/{chosen.choice(NAMES)}".lstrip("/")
            if known and chosen.random() < 0.3:
                path = chosen.choice(known)
            entry = make_random_entry(chosen, path, known)
            # Most random entries make no sense where they stand; a few of these are enough.
            if chosen.random() > 0.02 and not is_mergeable([*layers, make_layer(*entries, entry)]):
                continue
            entries.append(entry)
            if chosen.random() < 0.8:
                known.append(path)
        layers.append(make_layer(*entries, format=chosen.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))))
    return layers


def is_mergeable(layers: list[bytes]) -> bool:
    replaced: list[bytes] = []
    merger = LayerMerger(FileTree(), note=lambda _, name, __: replaced.append(name))
    try:
        for layer in layers:
            with TemporaryFile() as file:
                file.write(layer)
                file.flush()
                merger.apply(read_entries(file.fileno(), 0, len(layer)), 0)
    except TarError:
        return False
    # A file that becomes a folder since a path leads through it: so does umoci since 0.5, and refuses before.
    return not replaced


def make_random_entry(chosen: random.Random, path: str, known: list[str]) -> tuple[tarfile.TarInfo, bytes]:
    owner: dict[str, Any] = {
        "uid": chosen.choice((0, 1000, 65534, 70000, 2_200_000)),
        "gid": chosen.choice((0, 5, 70000)),
        "mode": chosen.choice((0o755, 0o644, 0o600, 0o4755, 0o2755, 0o1777, 0o000)),
        "mtime": chosen.choice((1, 1_600_000_000, 1_600_000_000.25, -1.5, -86400, 5_000_000_000)),
    }
    pax = {}
    if chosen.random() < 0.2:
        pax["SCHILY.xattr.user.color"] = chosen.choice(("red", "\x01", "grün"))
    if chosen.random() < 0.1:
        pax["SCHILY.xattr.security.capability"] = CAPABILITY
    spelled = chosen.choice(("", "", "", "./", "/", "../")) + path
    draw = chosen.random()
    if draw < 0.30:
        return make_entry(
            spelled, content=chosen.randbytes(chosen.choice((0, 1, 511, 512, 3000))), pax=pax, **owner
        )
    if draw < 0.60:
        # A set-group-ID folder would hand its group to those that umoci makes in it for want of an entry.
        owner["mode"] &= ~0o2000
        return make_entry(spelled + chosen.choice(("", "/")), tarfile.DIRTYPE, pax=pax, **owner)
    if draw < 0.72:
        target = chosen.choice(
            (".", "..", "/", "x", *known, *("/" + name for name in known), "../../../a", "c/../b")
        )
        return make_entry(spelled, tarfile.SYMTYPE, link=target, **owner)
    if draw < 0.82 and known:
        return make_entry(spelled, tarfile.LNKTYPE, link=chosen.choice(known), **owner)
    if draw < 0.86:
        kind = chosen.choice((tarfile.CHRTYPE, tarfile.BLKTYPE))
        return make_entry(spelled, kind, device=(chosen.randint(1, 300), chosen.randint(0, 300)), **owner)
    if draw < 0.88:
        return make_entry(spelled, tarfile.FIFOTYPE, **owner)
    folder, _, name = path.rpartition("/")
    hidden = ".wh..wh..opq" if draw > 0.96 else ".wh." + name
    return make_entry(f"{folder}/{hidden}".lstrip("/"), mtime=1)


def read_tree(tree: FileTree) -> dict[bytes, Record]:
    records: dict[bytes, Record] = {}
    names: dict[int, list[bytes]] = defaultdict(list)
    for path, node in tree.walk():
        record = records[path] = {
            "mode": tree.mode[node], "owner": (tree.uid[node], tree.gid[node]),
            "mtime": tree.mtime[node] * 10**9 + tree.mtime_nanoseconds[node],
            "xattrs": sorted((os.fsdecode(name), value) for name, value in tree.xattrs.get(node, ())),
        }  # fmt: skip
        if not tree.is_directory(node):
            names[node].append(path)
        if stat.S_ISREG(tree.mode[node]):
            record["content"] = tree.read(node)
        elif stat.S_ISLNK(tree.mode[node]):
            record["target"] = tree.link_target[node]
        elif not tree.is_directory(node):
            record["device"] = (tree.rdev_major[node], tree.rdev_minor[node])
    for group in names.values():
        for path in group:
            records[path]["links"] = sorted(group)
    return records


def compare(seed: object, layers: list[bytes], folder: Path, disk: Path) -> dict[bytes, Record] | None:
    """The merged tree where umoci accepts the layers, whose tree must be the same; it is written to `disk`, too."""
    layout = write_layout(folder / "layout", layers, compression=("plain", "gzip")[len(layers) % 2])
    started = time.time_ns() - 10**9
    unpacked = subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:latest", str(folder / "bundle")],
        capture_output=True,
        check=False,
    )
    with ExitStack() as stack:
        image = open_oci_layout(layout, stack)
        try:
            tree = merge_layers(image, stack, SilentMonitor())
            image.verify()
        except InvalidInput as error:
            assert unpacked.returncode != 0, f"seed {seed}: umoci accepts what we refuse: {error}"
            return None
        if unpacked.returncode != 0:
            return None
        write_disk(tree, disk)
        ours, theirs = read_tree(tree), read_folder(folder / "bundle" / "rootfs")
    assert sorted(ours) == sorted(theirs), f"seed {seed}"
    for path, record in ours.items():
        other = theirs[path]
        expected = dict(record)
        if stat.S_ISDIR(record["mode"]) and other["mtime"] >= started:
            # umoci does not put back a folder's time after it made or removed something nameless in it.
            expected.pop("mtime"), other.pop("mtime")
        assert expected == other, f"seed {seed}: {path!r}"
    return ours


def write_disk(tree: FileTree, disk: Path) -> None:
    descriptor = os.open(disk, os.O_RDWR | os.O_CREAT)
    write_raw(plan_ext4(tree, size_bytes=64 << 20), descriptor)
    os.close(descriptor)
    subprocess.run(["e2fsck", "-fn", str(disk)], check=True, capture_output=True)


@pytest.mark.parametrize("group", range(4))
def test_random_layers_become_the_disk_of_the_tree_that_umoci_unpacks(group: int, tmp_path: Path) -> None:
    merged: dict[Path, dict[bytes, Record]] = {}
    for seed in range(1000 + 12 * group, 1000 + 12 * (group + 1)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        tree = compare(seed, make_random_layers(seed), folder, disk := folder / "disk.img")
        if tree is not None:
            merged[disk] = tree
    assert len(merged) >= 8, "too few of the random images are valid for this test to mean anything"
    if not can_mount():
        pytest.skip("the trees are the same; this machine mounts no loop devices to read the disks")
    for (disk, tree), found in zip(
        merged.items(), read_mounted(list(merged), tmp_path / "mount"), strict=True
    ):
        del found[b"lost+found"]
        assert sorted(found) == sorted(tree), disk
        for path, record in tree.items():
            assert found[path] == record, (disk, path)


# Go keeps what looks like a time as one, and drops what is neither.
UNLIKE_GO = {"gnu-magic-with-a-folder-that-begins-like-a-time"}


@pytest.mark.parametrize("layer", sorted(ODD_LAYERS.keys() - UNLIKE_GO))
def test_odd_layers_become_the_tree_that_umoci_unpacks(layer: str, tmp_path: Path) -> None:
    layers = [make_layer(make_entry("below", content=b"lower")), ODD_LAYERS[layer]]
    assert compare(layer, layers, tmp_path, tmp_path / "disk.img") is not None, "umoci refuses it"
