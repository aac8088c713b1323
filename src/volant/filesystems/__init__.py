# SPDX-License-Identifier: Apache-2.0
"""From a tree of files to the blocks of a file system, for whoever makes disks: plugins' roots, and empty volumes.

`plan(tree, …)` decides where everything goes, without reading any content; what it returns is told block by block.
"""

from __future__ import annotations

from typing import Literal

from volant.filesystems.blocks import PlannedImage
from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import FileTree

FileSystem = Literal["ext4"]


def plan(
    tree: FileTree,
    *,
    file_system: FileSystem = "ext4",
    size_bytes: int | None = None,
    timestamp: int = 0,
    label: str = "",
) -> PlannedImage:
    """Plan a file system that holds `tree`, of `size_bytes` (None: large enough). Raises InvalidInput.

    The tree must not change until the image has been written.
    """
    match file_system:
        case "ext4":
            return plan_ext4(tree, size_bytes=size_bytes, timestamp=timestamp, label=label)
