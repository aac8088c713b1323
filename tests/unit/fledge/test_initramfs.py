# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.remembering_monitor import RememberingMonitor
from volant.contract.payload_files import _read_cpio
from volant.errors import InvalidInput, NotFound, ToolFailed
from volant.filesystems.filetree import ROOT, Extent, FileTree, Metadata
from volant.fledge.initramfs import make_initramfs, read_folder, run_build_script
from volant.fledge.local_files import LocalFiles, find_file

HEADER = 110


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def entries(data: bytes) -> dict[bytes, tuple[dict[str, int], bytes]]:
    """Name → (fields, content) of a newc archive, read as the kernel does."""
    names = (
        "ino",
        "mode",
        "uid",
        "gid",
        "nlink",
        "mtime",
        "size",
        "maj",
        "min",
        "rmaj",
        "rmin",
        "length",
        "check",
    )
    found: dict[bytes, tuple[dict[str, int], bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701", at
        fields = dict(
            zip(names, (int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)), strict=True)
        )
        name = data[at + HEADER : at + HEADER + fields["length"] - 1]
        at += (HEADER + fields["length"] + 3) & ~3
        if name == b"TRAILER!!!":
            return found
        found[name] = fields, data[at : at + fields["size"]]
        at += (fields["size"] + 3) & ~3


def test_all_kinds_of_entries(stack: ExitStack, monitor: RememberingMonitor, home: Path) -> None:
    tree = FileTree()
    files = LocalFiles(tree, stack, 9)
    files.add_bytes("/bin/tool", b"content", 0o4755)
    tree.uid[tree.find("/bin/tool")] = 5  # type: ignore[index]
    tree.add_link(ROOT, b"same", tree.find("/bin/tool"))  # type: ignore[arg-type]
    tree.add_symlink(ROOT, b"link", Metadata(stat.S_IFLNK | 0o777), b"bin/tool")
    tree.add_special(ROOT, b"null", Metadata(stat.S_IFCHR | 0o666), 1, 3)
    source = tree.sources[0]
    tree.add_file(ROOT, b"holes", Metadata(stat.S_IFREG | 0o644), 20, sparse=(Extent(10, 0, 0, 3),))
    assert source == tree.sources[0]
    descriptor = make_initramfs(tree, stack, monitor)
    packed = os.pread(descriptor, 1 << 20, 0)
    found = entries(gzip.decompress(packed))
    assert next(iter(found)) == b"."
    assert found[b"bin/tool"][1] == b"content"
    assert found[b"same"][1] == b""
    assert found[b"same"][0]["ino"] == found[b"bin/tool"][0]["ino"]
    assert (found[b"bin/tool"][0]["nlink"], found[b"bin/tool"][0]["uid"]) == (2, 5)
    assert found[b"bin/tool"][0]["mode"] == stat.S_IFREG | 0o4755
    assert found[b"bin/tool"][0]["mtime"] == 9
    assert found[b"link"][1] == b"bin/tool"
    assert (found[b"null"][0]["rmaj"], found[b"null"][0]["rmin"]) == (1, 3)
    assert found[b"holes"][1] == bytes(10) + b"con" + bytes(7)
    assert found[b"init"][1] == b"/usr/local/bin/kestrel"
    inodes = [fields["ino"] for name, (fields, _) in found.items() if name != b"same"]
    assert len(set(inodes)) == len(inodes)
    assert {path: size for path, size, _ in _read_cpio(descriptor)} == {
        b"bin/tool": 7,
        b"same": 0,
        b"holes": 20,
    }


def test_the_same_tree_is_the_same_archive(monitor: RememberingMonitor, home: Path) -> None:
    packed = []
    for _ in range(2):
        with ExitStack() as stack:
            tree = FileTree()
            LocalFiles(tree, stack, 0).add_bytes("/a", b"x" * 100_000)
            packed.append(os.pread(make_initramfs(tree, stack, monitor), 1 << 20, 0))
    assert packed[0] == packed[1]


def test_an_archive_of_a_build_script_goes_before(
    stack: ExitStack, monitor: RememberingMonitor, home: Path
) -> None:
    other = home / "first.cpio.gz"
    with ExitStack() as inner:
        tree = FileTree()
        LocalFiles(tree, inner, 0).add_bytes("/first", b"1")
        other.write_bytes(os.pread(make_initramfs(tree, inner, monitor), 1 << 20, 0))
    tree = FileTree()
    LocalFiles(tree, stack, 0).add_bytes("/second", b"2")
    descriptor = make_initramfs(tree, stack, monitor, other)
    assert {path for path, _, _ in _read_cpio(descriptor)} == {b"first", b"second"}


def test_attributes_that_are_lost_are_told(stack: ExitStack, monitor: RememberingMonitor, home: Path) -> None:
    tree = FileTree()
    LocalFiles(tree, stack, 0).add_bytes("/ping", b"")
    tree.xattrs[tree.find("/ping")] = ((b"security.capability", b"1"),)  # type: ignore[index]
    make_initramfs(tree, stack, monitor)
    assert "warning: an initramfs holds no extended attributes" in monitor.text


def test_a_build_script_leaves_a_tree(stack: ExitStack, monitor: RememberingMonitor, home: Path) -> None:
    script = Path("make.sh")
    script.write_text(
        "#!/bin/sh\nmkdir -p rootfs/bin; echo hi > rootfs/bin/a; chmod 750 rootfs/bin/a; echo said\n"
    )
    script.chmod(0o755)
    rootfs, archive = run_build_script(script, monitor)
    assert (rootfs, archive) == (Path("rootfs"), None)
    assert "  said" in monitor.lines
    tree = read_folder(home / "rootfs", stack, 3)
    node = find_file(tree, "/bin/a")
    assert node is not None
    assert (tree.mode[node], tree.mtime[node], tree.read(node)) == (stat.S_IFREG | 0o750, 3, b"hi\n")


def test_a_build_script_that_fails_or_leaves_nothing(monitor: RememberingMonitor, home: Path) -> None:
    script = home / "make.sh"
    with pytest.raises(NotFound, match=r"make\.sh: no such file"):
        run_build_script(script, monitor)
    script.write_text("true\n")
    with pytest.raises(InvalidInput, match=r"left neither rootfs/ nor initramfs\.cpio\.gz"):
        run_build_script(script, monitor)
    script.write_text("echo because >&2; exit 3\n")
    with pytest.raises(ToolFailed, match=r"cannot run make\.sh") as caught:
        run_build_script(script, monitor)
    assert "because" in caught.value.details
