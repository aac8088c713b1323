# SPDX-License-Identifier: Apache-2.0
"""An empty copy-on-write overlay as bytes: what `qemu-img create -b` writes, without the time that a program takes.

QEMU's docs/interop/qcow2.txt, version 3: a header that names the backing file, and tables that say that nothing was
written yet. Four clusters or a few more for a large disk, most of them holes.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from volant.errors import InvalidInput

CLUSTER_BITS = 16
CLUSTER_BYTES = 1 << CLUSTER_BITS
# One entry of the first table maps a second table of 8-byte entries, one for each cluster.
L1_ENTRY_COVERS_BYTES = CLUSTER_BYTES // 8 * CLUSTER_BYTES
HEADER_BYTES = 104
BACKING_FORMAT = 0xE2792ACA
REFCOUNT_ORDER = 4
LONGEST_NAME_BYTES = 1023
SECTOR_BYTES = 512


def write_empty_overlay(descriptor: int, backing: Path, backing_format: str, size_bytes: int) -> None:
    """Write an overlay of `size_bytes` (rounded up to whole sectors) over `backing` into an empty file."""
    name = os.fsencode(backing)
    if len(name) > LONGEST_NAME_BYTES:
        raise InvalidInput(
            f"cannot make a disk over {backing}: the path is longer than {LONGEST_NAME_BYTES} bytes"
        )
    size_bytes = -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
    l1_entries = -(-size_bytes // L1_ENTRY_COVERS_BYTES)
    l1_clusters = max(1, -(-l1_entries * 8 // CLUSTER_BYTES))
    kind = backing_format.encode()
    extensions = struct.pack(">II", BACKING_FORMAT, len(kind)) + kind + bytes(-len(kind) % 8) + bytes(8)
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, HEADER_BYTES + len(extensions), len(name), CLUSTER_BITS, size_bytes,
        0, l1_entries, 3 * CLUSTER_BYTES,  # no encryption; the first table
        CLUSTER_BYTES, 1, 0, 0,  # the table of reference counts and its clusters; no snapshots
        0, 0, 0, REFCOUNT_ORDER, HEADER_BYTES,  # no features
    )  # fmt: skip
    used = 3 + l1_clusters
    os.pwrite(descriptor, header + extensions + name, 0)
    os.pwrite(descriptor, struct.pack(">Q", 2 * CLUSTER_BYTES), CLUSTER_BYTES)
    os.pwrite(descriptor, struct.pack(">H", 1) * used, 2 * CLUSTER_BYTES)
    os.ftruncate(descriptor, used * CLUSTER_BYTES)
