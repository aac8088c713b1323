# SPDX-License-Identifier: Apache-2.0
"""An empty jbd2 journal: its superblock; the rest is zero (ext4 documentation, "Journal (jbd2)")."""

from __future__ import annotations

import struct

from volant.filesystems.ext4.layout import BLOCK_SIZE


def make_journal_superblock(blocks: int) -> bytes:
    """First block of a clean journal of so many blocks. All jbd2 fields are big-endian."""
    superblock = bytearray(BLOCK_SIZE)
    # Magic, type "superblock version 2", sequence; block size, length, first log block, first sequence, start: clean.
    struct.pack_into(">IIIIIIII", superblock, 0, 0xC03B3998, 4, 0, BLOCK_SIZE, blocks, 1, 1, 0)
    struct.pack_into(">I", superblock, 0x40, 1)  # one user: this file system
    return bytes(superblock)
