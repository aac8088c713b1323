# SPDX-License-Identifier: Apache-2.0
"""Disks of our own making, judged by the tools of those who know: e2fsck, debugfs, resize2fs, qemu-img, tar."""

from __future__ import annotations

import os
import random
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.folder_records import can_mount
from support.written_plugins import write_plugin_file
from volant.contract.manifest import Manifest
from volant.contract.plugin_archive import read_plugin_archive
from volant.filesystems.ext4 import Ext4Image, plan_ext4
from volant.filesystems.filetree import ROOT, Extent, FileTree, Metadata
from volant.fledge.plugin_archive import DiskOptions
from volant.fledge.raw import write_raw
from volant.process import require_tool, run_tool
from volant.progress import SilentMonitor

SOURCE_BYTES = 4 << 20
FILE = Metadata(stat.S_IFREG | 0o644)
CAPABILITY = (b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
ACL = b"\2\0\0\0" + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 1000),
        (4, 4, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 4, 0xFFFFFFFF),
    )
)


@dataclass
class Source:
    """A file that trees take their content from."""

    descriptor: int
    content: bytes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    path = tmp_path_factory.mktemp("source") / "content"
    content = random.Random(3).randbytes(SOURCE_BYTES // 2) + b"words and more words " * (SOURCE_BYTES // 42)
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    yield Source(descriptor, content)
    os.close(descriptor)


def write(image: Ext4Image, path: Path) -> Path:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    write_raw(image, descriptor)
    os.close(descriptor)
    return path


def check(path: Path) -> None:
    """Silent means: no question, no repair, nothing but the names of the passes and the summary."""
    done = run_tool([require_tool("e2fsck"), "-fn", str(path)])
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Pass ")]
    assert len(lines) == 1 and re.search(r"\d+/\d+ files .* \d+/\d+ blocks$", lines[0]), done.stdout


def debugfs(path: Path, *commands: str) -> str:
    script = "\n".join(commands).encode() + b"\n"
    return run_tool([require_tool("debugfs"), "-f", "-", str(path)], stdin=script).stdout


def make_rich_tree(source: Source) -> FileTree:
    """Everything at once that an image may hold."""
    tree = FileTree()
    number = tree.add_source(source.descriptor)
    etc = tree.add_directory(ROOT, b"etc", Metadata(stat.S_IFDIR | 0o755, mtime=-5, mtime_nanoseconds=7))
    hosts = tree.add_file(
        etc,
        b"hosts",
        Metadata(stat.S_IFREG | 0o4755, 70_000, 80_000, 1 << 33, 123_456_789),
        5000,
        number,
        512,
    )
    tree.add_link(etc, b"hosts-too", hosts)
    tree.add_symlink(etc, b"short", Metadata(stat.S_IFLNK | 0o777), b"hosts")
    tree.add_symlink(etc, b"long", Metadata(stat.S_IFLNK | 0o777), b"x/" * 150)
    tree.add_special(etc, b"null", Metadata(stat.S_IFCHR | 0o666), 1, 3)
    tree.add_special(etc, b"disk", Metadata(stat.S_IFBLK | 0o660), 300, 70_000)
    tree.add_special(etc, b"fifo", Metadata(stat.S_IFIFO | 0o600))
    tree.add_special(etc, b"socket", Metadata(stat.S_IFSOCK | 0o600))
    tree.add_file(etc, b"empty", FILE, 0)
    tree.add_file(
        etc, b"ping", Metadata(stat.S_IFREG | 0o755, xattrs=(CAPABILITY, (b"user.a", b"b"))), 100, number, 0
    )
    shared = ((b"user.big", b"z" * 2000), (b"user.none", b""), (b"system.posix_acl_access", ACL))
    for index in range(1030):
        tree.add_file(
            etc, b"shared-%d" % index, Metadata(stat.S_IFREG | 0o644, xattrs=shared), 10, number, index
        )
    holes = tuple(Extent(index * (1 << 24) + 5, number, index * 100, 5000) for index in range(1500))
    tree.add_file(ROOT, b"sparse", FILE, 10 << 40, sparse=holes)
    tree.add_file(ROOT, b"whole", FILE, SOURCE_BYTES // 2 - 3, number, 1)
    names = tree.add_directory(ROOT, b"names", Metadata(stat.S_IFDIR | 0o1777))
    for name in (b"\xff\xfe", "naïve-ß".encode(), b"n" * 255, b" ", b"\n"):
        tree.add_file(names, name, FILE, 0)
    return tree


@pytest.mark.parametrize("size_bytes", [200 << 20, 1 << 30, None, 200 << 30])
def test_e2fsck_has_nothing_to_say(tmp_path: Path, source: Source, size_bytes: int | None) -> None:
    check(write(plan_ext4(make_rich_tree(source), size_bytes=size_bytes, label="root"), tmp_path / "disk"))


def test_e2fsck_believes_every_time(tmp_path: Path) -> None:
    """It takes some of the times that the format can hold for damage."""
    tree = FileTree()
    for year in range(1850, 2500, 10):
        time = (year - 1970) * 31_556_952
        tree.add_file(ROOT, b"%d" % year, Metadata(stat.S_IFREG | 0o644, mtime=time), 0)
    check(write(plan_ext4(tree), tmp_path / "disk"))


def test_debugfs_reads_what_was_put_in(tmp_path: Path, source: Source) -> None:
    path = write(plan_ext4(make_rich_tree(source)), tmp_path / "disk")
    told = debugfs(
        path, "stat /etc/hosts", "stat /etc/null", "stat /etc/disk", "ea_list /etc/ping", "stat /etc/long"
    )
    for expected in (
        "Mode:  04755", "User: 70000   Group: 80000", "Size: 5000", "Links: 2", "mtime: 0x00000000:1d6f3456",
        "major/minor number: 01:03", "major/minor number: 300:70000", "security.capability (20)",
        'user.a (1) = "b"', "Size: 300",
    ):  # fmt: skip
        assert expected in told, expected
    debugfs(path, f"dump /whole {tmp_path / 'whole'}", f"dump /etc/hosts {tmp_path / 'hosts'}")
    assert (tmp_path / "whole").read_bytes() == source.content[1 : SOURCE_BYTES // 2 - 2]
    assert (tmp_path / "hosts").read_bytes() == source.content[512:5512]


def test_a_directory_of_100000_entries_is_a_hash_tree_that_finds_them(tmp_path: Path) -> None:
    tree = FileTree()
    many = tree.add_directory(ROOT, b"many", Metadata(stat.S_IFDIR | 0o755))
    for index in range(100_000):
        tree.add_file(many, b"%d" % index + b"-\xe9" * (index % 60), FILE, 0)
    path = write(plan_ext4(tree), tmp_path / "disk")
    check(path)
    assert "Indirect levels: 1" in debugfs(path, "htree_dump /many")
    assert "Inode: " in debugfs(path, "stat /many/60")


def test_it_grows_and_its_journal_is_sound(tmp_path: Path, source: Source) -> None:
    path = write(plan_ext4(make_rich_tree(source), size_bytes=1 << 30), tmp_path / "disk")
    os.truncate(path, 40 << 30)
    run_tool([require_tool("resize2fs"), str(path)])
    check(path)
    assert (
        "s_start:" in (told := run_tool([require_tool("dumpe2fs"), "-h", str(path)]).stdout)
        or "Journal start" in told
    )
    assert "Block count:              10485760" in told


@pytest.mark.skipif(not can_mount(), reason="needs root and a loop device")
def test_the_kernel_mounts_it_writes_to_it_and_leaves_it_sound(tmp_path: Path, source: Source) -> None:
    path = write(plan_ext4(make_rich_tree(source), size_bytes=1 << 30), tmp_path / "disk")
    mount = tmp_path / "mount"
    mount.mkdir()
    script = """
        mount -o loop "$1" "$2" || exit 99
        cmp "$2/etc/hosts" "$2/etc/hosts-too" && stat -c '%h %s %Y' "$2/etc/hosts"
        for number in $(seq 2000); do : > "$2/etc/new-$number"; done
        rm "$2"/etc/shared-1*; mkdir "$2/fresh"; cp "$2/whole" "$2/fresh/"
        umount "$2"
    """
    done = run_tool(
        ["unshare", "-m", "sh", "-c", script, "sh", str(path), str(mount)], accepted_exit_codes=(0, 99)
    )
    if done.returncode == 99:
        pytest.skip("this machine mounts no loop devices")
    assert done.stdout.strip() == f"2 5000 {1 << 33}"
    check(path)


@pytest.mark.parametrize(
    "options", [DiskOptions(), DiskOptions(compression="zlib"), DiskOptions(compression=None)]
)
@pytest.mark.guide("6-5")
def test_qemu_img_finds_no_fault_and_no_difference(
    tmp_path: Path, source: Source, options: DiskOptions
) -> None:
    image = plan_ext4(make_rich_tree(source), size_bytes=2 << 30)
    raw = write(image, tmp_path / "raw")
    plugin = tmp_path / "p.tar.gz"
    manifest = Manifest(name="app", version="1.0.0")
    written = write_plugin_file(plugin, image, manifest, options, SilentMonitor())
    run_tool(["tar", "-xzf", str(plugin), "-C", str(tmp_path)])
    disk = tmp_path / "rootfs.qcow2"
    told = run_tool(["qemu-img", "check", str(disk)]).stdout
    assert "No errors were found" in told
    run_tool(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(raw), str(disk)])
    sums = run_tool(["sha256sum", str(disk)]).stdout
    assert written.manifest.rootfs is not None and written.manifest.rootfs.checksum == f"sha256:{sums[:64]}"
    with ExitStack() as stack:
        stream = stack.enter_context(plugin.open("rb"))
        copy = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
        stack.callback(os.close, copy)
        content = read_plugin_archive(stream, copy)
    assert content.manifest == written.manifest
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


def test_a_raw_plugin_holds_the_same_disk(tmp_path: Path, source: Source) -> None:
    image = plan_ext4(make_rich_tree(source), size_bytes=300 << 20)
    raw = write(image, tmp_path / "raw")
    plugin = tmp_path / "p.tar.gz"
    write_plugin_file(
        plugin, image, Manifest(name="app", version="1.0.0"), DiskOptions("raw"), SilentMonitor()
    )
    run_tool(["tar", "-xzf", str(plugin), "-C", str(tmp_path)])
    run_tool(["cmp", str(raw), str(tmp_path / "rootfs.img")])


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_trees_are_sound(tmp_path: Path, source: Source, data: st.DataObject) -> None:
    tree = FileTree()
    number = tree.add_source(source.descriptor)
    folders = [ROOT]
    files: list[int] = []
    for _ in range(data.draw(st.integers(0, 40))):
        parent = data.draw(st.sampled_from(folders))
        name = data.draw(NAMES)
        if name in tree.children[parent]:
            continue
        xattrs = tuple(
            (b"user.%d" % index, b"v" * data.draw(st.integers(0, 700)))
            for index in range(data.draw(st.integers(0, 3)))
        )
        time = data.draw(st.integers(-(1 << 40), 1 << 40))
        kind = data.draw(st.sampled_from("dflslh"))
        if kind == "d":
            folders.append(
                tree.add_directory(
                    parent, name, Metadata(stat.S_IFDIR | 0o700, 1, 1 << 20, time, 999_999_999, xattrs)
                )
            )
        elif kind == "f":
            size = data.draw(st.integers(0, 200_000))
            files.append(
                tree.add_file(
                    parent, name, Metadata(stat.S_IFREG | 0o600, mtime=time, xattrs=xattrs), size, number, 0
                )
            )
        elif kind == "s":
            places = sorted(data.draw(st.sets(st.integers(0, 1 << 20), max_size=12)))
            pieces = tuple(
                Extent(place * 9000, number, place, data.draw(st.integers(1, 9000))) for place in places
            )
            size = places[-1] * 9000 + 20_000 if places else 12_345
            files.append(tree.add_file(parent, name, FILE, size, sparse=pieces))
        elif kind == "l":
            tree.add_symlink(
                parent,
                name,
                Metadata(stat.S_IFLNK | 0o777, xattrs=xattrs),
                b"t" * data.draw(st.integers(1, 200)),
            )
        elif files:
            tree.add_link(parent, name, data.draw(st.sampled_from(files)))
    check(
        write(plan_ext4(tree, size_bytes=data.draw(st.sampled_from([300 << 20, 2 << 30]))), tmp_path / "disk")
    )
