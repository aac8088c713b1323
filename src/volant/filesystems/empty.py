# SPDX-License-Identifier: Apache-2.0
"""An empty, formatted file: a volume before anybody has written to it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import FileTree
from volant.whole_file import WholeFile


def write_empty_ext4(
    path: Path, size_bytes: int, *, label: str = "", uuid: UUID | None = None, timestamp: int = 0
) -> None:
    """Write an ext4 file system of `size_bytes` with nothing in it to a new, sparse file, private to its owner.

    The file appears whole or not at all. Without `uuid` all volumes of a size and label are the same. Raises
    InvalidInput for a size that is too small; NotPermitted, StorageFull or OSError where the file cannot be written.
    """
    tree = FileTree()
    tree.mtime[0] = timestamp
    image = plan_ext4(
        tree, size_bytes=size_bytes, timestamp=timestamp, label=label, uuid=uuid.bytes if uuid else None
    )
    with WholeFile(path, mode=0o600) as file:
        os.ftruncate(file.descriptor, image.size_bytes)
        for offset, _, data, *_ in image.pieces():
            assert data is not None, "an empty tree has no content from elsewhere"
            view = memoryview(data() if callable(data) else data)
            while view:
                written = os.pwrite(file.descriptor, view, offset)
                view, offset = view[written:], offset + written
        file.publish()
