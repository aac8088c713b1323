# SPDX-License-Identifier: Apache-2.0
"""Kernel modules as far as their own section goes."""

from __future__ import annotations

import struct


def make_elf(modinfo: bytes) -> bytes:
    """A 64-bit ELF file with the sections .modinfo and .shstrtab and nothing else."""
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.Struct("<16sHHIQQQIHHHHHH")
    table = header.size + len(modinfo) + len(names)
    section = struct.Struct("<IIQQQQIIQQ")
    return (
        header.pack(b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, section.size, 3, 2)
        + modinfo
        + names
        + section.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        + section.pack(1, 1, 0, 0, header.size, len(modinfo), 0, 0, 1, 0)
        + section.pack(10, 3, 0, 0, header.size + len(modinfo), len(names), 0, 0, 1, 0)
    )
