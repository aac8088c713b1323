# SPDX-License-Identifier: Apache-2.0
"""Plugins of planned images, written by fledge to a path."""

from __future__ import annotations

from pathlib import Path

from volant.contract.manifest import Manifest
from volant.filesystems.blocks import PlannedImage
from volant.fledge.plugin_archive import DiskOptions, WrittenPlugin, write_disk_plugin
from volant.progress import Monitor
from volant.whole_file import WholeFile


def write_plugin_file(
    path: Path, image: PlannedImage, manifest: Manifest, options: DiskOptions, monitor: Monitor
) -> WrittenPlugin:
    with WholeFile(path) as file:
        written = write_disk_plugin(file.descriptor, image, manifest, options, monitor)
        file.publish()
    return written
