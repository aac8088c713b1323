# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat
from tempfile import TemporaryFile

from volant.filesystems.filetree import ROOT, Extent, FileTree, Metadata

FILE = Metadata(stat.S_IFREG | 0o644, 1, 2, -3, 4, ((b"user.a", b"b"),))
FOLDER = Metadata(stat.S_IFDIR | 0o755)


def test_fields_and_lookups() -> None:
    tree = FileTree()
    folder = tree.add_directory(ROOT, b"d", FOLDER)
    file = tree.add_file(folder, b"f", FILE, 10, 0, 99)
    device = tree.add_special(folder, b"null", Metadata(stat.S_IFCHR | 0o666), 1, 3)
    soft = tree.add_symlink(ROOT, b"s", Metadata(stat.S_IFLNK | 0o777), b"d/f")
    assert (tree.find("/d/f"), tree.find(b"d//null"), tree.find("s/x"), tree.find("d/f/x")) == (
        file,
        device,
        None,
        None,
    )
    assert (tree.uid[file], tree.gid[file], tree.mtime[file], tree.mtime_nanoseconds[file]) == (1, 2, -3, 4)
    assert tree.xattrs == {file: ((b"user.a", b"b"),)}
    assert (tree.rdev_major[device], tree.rdev_minor[device], tree.rdev_major[file]) == (1, 3, 0)
    assert file not in tree.rdev_major, "reading a column adds nothing to it"
    assert tree.extents(file) == (Extent(0, 0, 99, 10),)
    assert (tree.size[soft], tree.link_target[soft]) == (3, b"d/f")
    assert [path for path, _ in tree.walk()] == [b"", b"d", b"d/f", b"d/null", b"s"]


def test_metadata_is_replaced_as_a_whole() -> None:
    tree = FileTree()
    tree.set_metadata(ROOT, Metadata(stat.S_IFDIR | 0o700, 5, 6, 7, 8, ((b"user.x", b"y"),)))
    assert tree.xattrs[ROOT] == ((b"user.x", b"y"),)
    tree.set_metadata(ROOT, FOLDER)
    assert (tree.mode[ROOT], tree.uid[ROOT], tree.xattrs) == (FOLDER.mode, 0, {})


def test_removing_takes_what_is_below_and_leaves_other_names() -> None:
    tree = FileTree()
    folder = tree.add_directory(tree.add_directory(ROOT, b"a", FOLDER), b"b", FOLDER)
    file = tree.add_file(folder, b"f", FILE, 0)
    tree.add_link(ROOT, b"g", file)
    assert tree.count_links() == {file: 2}
    tree.remove(ROOT, b"a")
    assert [path for path, _ in tree.walk()] == [b"", b"g"]
    assert list(tree.children) == [ROOT]
    assert tree.count_links() == {}


def test_reading_content_with_holes() -> None:
    tree = FileTree()
    with TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        source = tree.add_source(file.fileno())
        node = tree.add_file(ROOT, b"f", FILE, 12, sparse=(Extent(1, source, 3, 2), Extent(8, source, 0, 1)))
        plain = tree.add_file(ROOT, b"p", FILE, 4, source, 6)
        assert tree.read(node) == b"\0" + b"34" + bytes(5) + b"0" + bytes(3)
        assert (tree.read(plain), tree.read(plain, 2)) == (b"6789", b"67")
        assert tree.extents(tree.add_file(ROOT, b"e", FILE, 0, source, 5)) == ()
