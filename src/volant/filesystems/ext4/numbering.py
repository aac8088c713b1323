# SPDX-License-Identifier: Apache-2.0
"""Inode numbers, link counts and parents: one walk over the tree, directory by directory, names in byte order."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from volant.errors import InvalidInput
from volant.filesystems.ext4.inodes import ROOT as ROOT_INODE
from volant.filesystems.ext4.layout import FIRST_INODE
from volant.filesystems.filetree import ROOT, FileTree

LOST_AND_FOUND = b"lost+found"
NO_NODE = 0xFFFFFFFF
_MOST_LINKS = 65000


@dataclass
class Numbering:
    """Columns by node: `inode_of` (0: not reached). `node_of[n]` is the node of inode FIRST_INODE + n, or NO_NODE.

    The children of a directory are numbered one after the other. `directories` are nodes in the order of the walk.
    """

    inode_of: array[int]
    node_of: array[int] = field(default_factory=lambda: array("I"))
    directories: array[int] = field(default_factory=lambda: array("I"))
    parent_inode: dict[int, int] = field(default_factory=dict)
    subdirectories: dict[int, int] = field(default_factory=dict)
    several_links: dict[int, int] = field(default_factory=dict)
    adds_lost_and_found: bool = False

    @property
    def last_inode(self) -> int:
        return FIRST_INODE + len(self.node_of) - 1

    def directory_links(self, node: int) -> int:
        """Link count of a directory; 1 means "too many to count" (dir_nlink)."""
        extra = 1 if node == ROOT and self.adds_lost_and_found else 0
        links = 2 + self.subdirectories.get(node, 0) + extra
        return links if links < _MOST_LINKS else 1


def number_inodes(tree: FileTree) -> Numbering:
    """Give every reachable node its inode."""
    numbering = Numbering(array("I", bytes(4 * len(tree.mode))))
    inode_of, node_of, directories = numbering.inode_of, numbering.node_of, numbering.directories
    children = tree.children
    inode_of[ROOT] = ROOT_INODE
    numbering.parent_inode[ROOT] = ROOT_INODE
    existing = children[ROOT].get(LOST_AND_FOUND)
    if existing is None:
        node_of.append(NO_NODE)
        numbering.adds_lost_and_found = True
    else:
        node_of.append(existing)
        inode_of[existing] = FIRST_INODE
    next_inode = FIRST_INODE + 1
    pending = [ROOT]
    while pending:
        node = pending.pop()
        inode = inode_of[node]
        directories.append(node)
        below: list[int] = []
        names = children[node]
        for name in sorted(names):
            child = names[name]
            is_directory = child in children
            if is_directory:
                below.append(child)
                numbering.parent_inode[child] = inode
            if not inode_of[child]:
                inode_of[child] = next_inode
                node_of.append(child)
                next_inode += 1
            elif not is_directory and not (node == ROOT and name == LOST_AND_FOUND):
                links = numbering.several_links.get(child, 1) + 1
                if links > _MOST_LINKS:
                    raise InvalidInput(
                        f"cannot store a file with more than {_MOST_LINKS} hard links: ext4 cannot count them",
                        details=[name.decode("utf-8", "replace")],
                    )
                numbering.several_links[child] = links
        if below:
            numbering.subdirectories[node] = len(below)
            below.reverse()
            pending.extend(below)
    return numbering
