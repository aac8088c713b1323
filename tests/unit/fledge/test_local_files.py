# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from volant.errors import InvalidInput
from volant.filesystems.filetree import ROOT, FileTree, Metadata
from volant.fledge.local_files import LocalFiles, digest_local, find_file, find_folder

FOLDER = Metadata(stat.S_IFDIR | 0o755)
LINK = Metadata(stat.S_IFLNK | 0o777)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def content(tree: FileTree, path: str) -> bytes:
    node = find_file(tree, path)
    assert node is not None, path
    return tree.read(node)


def mode(tree: FileTree, path: str) -> int:
    node = tree.find(path)
    assert node is not None, path
    return stat.S_IMODE(tree.mode[node])


def test_modes_owners_and_times_do_not_depend_on_the_checkout(home: Path, stack: ExitStack) -> None:
    (home / "tool").write_text("t")
    (home / "script.sh").write_text("s")
    (home / "script.sh").chmod(0o700)
    (home / "page").write_text("p")
    (home / "page").chmod(0o600)
    tree = FileTree()
    files = LocalFiles(tree, stack, stamp=7)
    files.add_local(home / "tool", "/usr/local/bin/tool")
    files.add_local(home / "script.sh", "/opt/script.sh")
    files.add_local(home / "page", "/srv/")
    assert (mode(tree, "/usr/local/bin/tool"), mode(tree, "/opt/script.sh"), mode(tree, "/srv/page")) == (
        0o755, 0o755, 0o644,
    )  # fmt: skip
    assert content(tree, "/srv/page") == b"p"
    assert content(tree, "/usr/local/bin/tool") == b"t"
    assert set(tree.uid) == {0}
    assert all(time == 7 for node, time in enumerate(tree.mtime) if node != ROOT)


def test_a_folder_is_laid_over_what_is_there(home: Path, stack: ExitStack) -> None:
    (home / "site/bin").mkdir(parents=True)
    (home / "site/bin/run").write_text("r")
    (home / "site/new").write_text("new")
    (home / "site/link").symlink_to("new")
    tree = FileTree()
    files = LocalFiles(tree, stack, 0)
    files.add_bytes("/srv/old", b"old")
    files.add_bytes("/srv/new", b"before")
    files.add_local(home / "site", "/srv")
    assert content(tree, "/srv/old") == b"old"
    assert content(tree, "/srv/new") == b"new"
    assert tree.link_target[tree.find("/srv/link")] == b"new"  # type: ignore[index]
    assert mode(tree, "/srv/bin/run") == 0o755


def test_symlinks_of_the_image_are_followed_inside_it(stack: ExitStack) -> None:
    tree = FileTree()
    tree.add_directory(ROOT, b"usr", FOLDER)
    tree.add_symlink(ROOT, b"bin", LINK, b"usr/bin")
    tree.add_symlink(ROOT, b"up", LINK, b"../../../etc")
    LocalFiles(tree, stack, 0).add_bytes("/bin/tool", b"x")
    LocalFiles(tree, stack, 0).add_bytes("/up/passwd", b"y")
    assert content(tree, "/usr/bin/tool") == b"x"
    assert content(tree, "/etc/passwd") == b"y"


def test_a_file_replaces_a_folder_and_a_symlink(stack: ExitStack) -> None:
    tree = FileTree()
    files = LocalFiles(tree, stack, 0)
    files.add_bytes("/a/b/c", b"deep")
    tree.add_symlink(ROOT, b"l", LINK, b"a")
    files.add_bytes("/a/b", b"flat")
    files.add_bytes("/l", b"file")
    assert content(tree, "/a/b") == b"flat"
    assert content(tree, "/l") == b"file"


def test_loops_and_files_on_the_way_are_errors(stack: ExitStack) -> None:
    tree = FileTree()
    tree.add_symlink(ROOT, b"a", LINK, b"b")
    tree.add_symlink(ROOT, b"b", LINK, b"a")
    with pytest.raises(InvalidInput, match="loop"):
        find_folder(tree, "/a/x", FOLDER)
    assert find_file(tree, "/a/x") is None
    LocalFiles(tree, stack, 0).add_bytes("/file", b"")
    with pytest.raises(InvalidInput, match="file is a file there"):
        find_folder(tree, "/file/x", FOLDER)


def test_special_files_are_refused(home: Path, stack: ExitStack) -> None:
    (home / "folder").mkdir()
    os.mkfifo(home / "folder/pipe")
    with pytest.raises(InvalidInput, match="pipe into the plugin"):
        LocalFiles(FileTree(), stack, 0).add_local(home / "folder", "/x")


def test_digest_sees_content_names_and_modes_but_not_times(home: Path) -> None:
    (home / "d").mkdir()
    (home / "d/a").write_text("1")
    first = digest_local(home / "d")
    os.utime(home / "d/a", (0, 0))
    assert digest_local(home / "d") == first
    (home / "d/a").chmod(0o755)
    second = digest_local(home / "d")
    (home / "d/a").write_text("2")
    assert len({first, second, digest_local(home / "d")}) == 3
