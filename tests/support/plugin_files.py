# SPDX-License-Identifier: Apache-2.0
"""Plugins for tests, made by hand as people may."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

from volant.cpio import CpioWriter


def make_initramfs(content: bytes = b"#!/bin/sh\n", *, image_json: bytes | None = None) -> bytes:
    stream = io.BytesIO()
    archive = CpioWriter(stream)
    archive.add(b"app", 0o100755, content)
    if image_json is not None:
        archive.add(b"etc/kestrel/image.json", 0o100644, image_json)
    archive.finish()
    return gzip.compress(stream.getvalue(), mtime=0)


def make_plugin(
    name: str = "web", version: str = "1.0.0", *, payload: bytes | None = None, **manifest: Any
) -> bytes:
    """An initramfs plugin.tar.gz; `manifest` keys win over the plain ones."""
    payload = make_initramfs() if payload is None else payload
    return _pack(
        name, version, {"initramfs": {"path": "initramfs.cpio.gz"}, **manifest}, "initramfs.cpio.gz", payload
    )


def make_disk_plugin(name: str = "whole", version: str = "1.0.0", **manifest: Any) -> bytes:
    """A plugin whose disk boots a system of its own, as far as its manifest says."""
    disk = {"path": "disk.raw", "format": "raw", "boot": "firmware"}
    return _pack(name, version, {"rootfs": disk, **manifest}, "disk.raw", bytes(1 << 20))


def make_data_plugin(
    name: str = "data", version: str = "1.0.0", content: bytes = b"", **manifest: Any
) -> bytes:
    """A plugin whose raw disk of 1 MiB begins with `content`; no kernel could boot it."""
    disk = {"path": "disk.raw", "format": "raw"}
    return _pack(name, version, {"rootfs": disk, **manifest}, "disk.raw", content.ljust(1 << 20, b"\0"))


def _pack(name: str, version: str, manifest: dict[str, Any], payload_name: str, payload: bytes) -> bytes:
    document = {
        "name": name,
        "version": version,
        "workload": {"type": "http", "port": 8080},
        **manifest,
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in (
            ("manifest.json", json.dumps(document).encode()),
            (payload_name, payload),
        ):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    # Without the time of day: the same plugin is the same bytes a second later.
    return gzip.compress(stream.getvalue(), mtime=0)
