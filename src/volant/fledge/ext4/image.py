# SPDX-License-Identifier: Apache-2.0
"""The planned file system as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from volant.fledge.blocks import Piece
from volant.fledge.filetree import FileTree


class Ext4Image:
    """A PlannedImage (see blocks.py)."""

    size_bytes: int
    descriptors: Sequence[int]

    def pieces(self) -> Iterator[Piece]:
        raise NotImplementedError


def plan_ext4(
    tree: FileTree, *, size_bytes: int | None = None, timestamp: int = 0, label: str = ""
) -> Ext4Image:
    """Plan a file system of `size_bytes` (None: 10 GiB, more if the content needs it) that holds `tree`.

    `timestamp` (SOURCE_DATE_EPOCH) is the file system's own time of creation. Raises InvalidInput where the content
    does not fit into the size, or ext4 cannot hold it.
    """
    raise NotImplementedError
