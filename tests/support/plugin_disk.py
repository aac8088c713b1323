# SPDX-License-Identifier: Apache-2.0
"""A finished plugin's disk, taken out and judged by other people's tools."""

from __future__ import annotations

import subprocess
from pathlib import Path


def read_disk(plugin: Path, folder: Path) -> Path:
    """The plugin unpacked into `folder`, a new one; returns its disk, checked, in raw form."""
    folder.mkdir()
    subprocess.run(["tar", "-xzf", str(plugin), "-C", str(folder)], check=True)
    raw = folder / "raw.img"
    subprocess.run(["qemu-img", "check", "-q", str(folder / "rootfs.qcow2")], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(folder / "rootfs.qcow2"), str(raw)], check=True)
    subprocess.run(["e2fsck", "-fn", str(raw)], check=True, capture_output=True)
    return raw


def debugfs(raw: Path, command: str) -> bytes:
    return subprocess.run(["debugfs", "-R", command, str(raw)], check=True, capture_output=True).stdout
