# SPDX-License-Identifier: Apache-2.0
"""Step 7 of the line: disk + manifest → plugin.tar.gz, manifest first, deterministic, nothing compressed twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volant.contract.manifest import Manifest
from volant.fledge.blocks import PlannedImage
from volant.progress import Monitor


@dataclass(frozen=True)
class DiskOptions:
    """How the disk is written. `compression` counts for qcow2 only; `level` None: the compressor's usual one."""

    format: Literal["qcow2", "raw"] = "qcow2"
    compression: Literal["zstd", "zlib"] | None = "zstd"
    level: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class WrittenPlugin:
    """The finished archive; `manifest` as it was written, with the disk's path and checksum."""

    path: Path
    size_bytes: int
    payload_size_bytes: int
    manifest: Manifest


def write_disk_plugin(
    path: Path, image: PlannedImage, manifest: Manifest, options: DiskOptions, monitor: Monitor
) -> WrittenPlugin:
    """Write a plugin whose root is a disk. `manifest` has no rootfs yet. Appears at `path` whole or not at all."""
    raise NotImplementedError


def write_initramfs_plugin(path: Path, descriptor: int, manifest: Manifest, monitor: Monitor) -> WrittenPlugin:
    """Write a plugin whose root is the cpio.gz in `descriptor` (from its start). `manifest` has no initramfs yet."""
    raise NotImplementedError
