# SPDX-License-Identifier: Apache-2.0
"""What of this host a VM can be given, and what it cannot."""

from __future__ import annotations

from pathlib import Path


def find_obstacle(path: Path) -> str:
    """Why this is left out; empty for folders and files, also for those that are to be made."""
    if path.is_socket() or (path.suffix == ".sock" and not path.exists()):
        return (
            f"{path} is a socket of this host, which no VM reaches; a program that asks Docker there finds its"
            " targets by name: services reach each other by theirs"
        )
    if path.is_char_device() or path.is_block_device() or path.is_fifo():
        return f"{path} is a device or a pipe of this host, which no VM is given"
    return ""
