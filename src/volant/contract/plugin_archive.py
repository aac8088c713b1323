# SPDX-License-Identifier: Apache-2.0
"""Reads plugin.tar.gz: ours, and those that people made by hand with tar. Every byte of it may be hostile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from volant.contract.manifest import Manifest


@dataclass(frozen=True)
class Limits:
    """Bounds on what an archive may ask of its reader."""

    payload_bytes: int = 1 << 40
    small_file_bytes: int = 4 << 20
    entries: int = 256


@dataclass(frozen=True)
class PluginContent:
    """What an archive holds. `manifest` is complete: path, format, checksum and boot of the payload are filled in.

    `files` are the small further files that the manifest names (cloud-init documents, an OpenAPI text).
    """

    manifest: Manifest
    kind: Literal["rootfs", "initramfs"]
    payload_name: str
    payload_size_bytes: int
    virtual_size_bytes: int
    checksum: str
    files: Mapping[str, bytes]


def read_plugin_archive(
    stream: BinaryIO,
    payload_descriptor: int | None = None,
    *,
    limits: Limits | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> PluginContent:
    """Read a whole archive, writing its disk or initramfs to `payload_descriptor` (None: only hash and probe it).

    `on_bytes` is told how many compressed bytes have been read since the last call. Raises InvalidInput for anything
    that is not a sound plugin (StorageFull where the descriptor's disk is); the descriptor's content is then garbage.
    """
    raise NotImplementedError
