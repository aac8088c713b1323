# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.tar_to_ext4 IN.tar OUT.img`: steps 3 and 5 of the line alone, for the comparison with tar2ext4."""

from __future__ import annotations

import gc
import os
import sys

from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import FileTree
from volant.fledge.layers import LayerMerger
from volant.fledge.raw import write_raw
from volant.fledge.tar import read_entries


def main(source: str, target: str) -> None:
    gc.disable()  # as fledge itself does
    descriptor = os.open(source, os.O_RDONLY)
    tree = FileTree()
    merger = LayerMerger(tree, 10_000_000)
    merger.apply(read_entries(descriptor, 0, os.fstat(descriptor).st_size), tree.add_source(descriptor))
    output = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    write_raw(plan_ext4(tree), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
