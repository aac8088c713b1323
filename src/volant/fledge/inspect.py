# SPDX-License-Identifier: Apache-2.0
"""`fledge inspect`: what a plugin holds, told to people or as JSON."""

from __future__ import annotations

import heapq
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from volant.contract.payload_files import Unreadable, list_files
from volant.contract.plugin_archive import PluginContent, read_plugin_archive
from volant.fledge.spool import open_spool
from volant.sizes import show_size


class PathSize(NamedTuple):
    """A file, or a folder with all below it (its path then ends in a slash)."""

    path: str
    size_bytes: int


def inspect_plugin(path: Path, *, top: int, as_json: bool) -> str:
    """A plugin's manifest, payload and biggest paths, as text that ends in a newline."""
    with ExitStack() as stack:
        spool = open_spool(stack)
        with path.open("rb") as stream:
            content = read_plugin_archive(stream, spool)
        os.lseek(spool, 0, os.SEEK_SET)
        biggest = find_biggest_paths(spool, content, top)
    if as_json:
        return json.dumps(_as_json(path, content, biggest), indent=2) + "\n"
    return _as_text(path, content, biggest)


def find_biggest_paths(descriptor: int, content: PluginContent, top: int) -> list[PathSize] | None:
    """The biggest files and folders of a payload; None where it holds nothing that can be read here."""
    try:
        files = list_files(descriptor, content)
    except Unreadable:
        return None
    folders: dict[bytes, int] = {}
    for path, size in files:
        parts = path.split(b"/")[:-1]
        for depth in range(1, min(len(parts), 3) + 1):
            folder = b"/".join(parts[:depth])
            folders[folder] = folders.get(folder, 0) + size
    rows = [PathSize(f"/{os.fsdecode(path)}", size) for path, size in files]
    rows += [PathSize(f"/{os.fsdecode(path)}/", size) for path, size in folders.items()]
    return heapq.nlargest(top, rows, key=lambda row: (row.size_bytes, row.path))


def _as_json(path: Path, content: PluginContent, biggest: list[PathSize] | None) -> dict[str, Any]:
    return {
        "size_bytes": path.stat().st_size,
        "kind": content.kind,
        "payload": content.payload_name,
        "payload_size_bytes": content.payload_size_bytes,
        "virtual_size_bytes": content.virtual_size_bytes,
        "checksum": content.checksum,
        "biggest_paths": [{"path": row.path, "size_bytes": row.size_bytes} for row in biggest or []],
        "manifest": content.manifest.model_dump(mode="json", exclude_none=True),
    }


def _as_text(path: Path, content: PluginContent, biggest: list[PathSize] | None) -> str:
    manifest = content.manifest
    workload = manifest.workload
    port = f", port {workload.port}" if workload.port else ""
    rows = [
        ("plugin", f"{manifest.name} {manifest.version}"),
        ("description", manifest.description),
        ("archive", show_size(path.stat().st_size)),
        (content.kind, f"{content.payload_name}, {show_size(content.payload_size_bytes)}"),
        ("checksum", content.checksum),
        ("workload", f"{workload.type}{port}"),
        ("resources", f"{manifest.resources.vcpu} vCPU, {manifest.resources.memory_mb} MiB"),
    ]
    if content.kind == "rootfs":
        rows.insert(4, ("disk size", show_size(content.virtual_size_bytes)))
        rows.insert(5, ("boots by", manifest.rootfs.boot or "kernel" if manifest.rootfs else "kernel"))
    if manifest.labels:
        rows.append(
            ("labels", ", ".join(f"{name}={value}" for name, value in sorted(manifest.labels.items())))
        )
    lines = [f"{name + ':':<13}{value}" for name, value in rows if value]
    if biggest:
        lines += ["", "biggest paths (content, before compression):"]
        lines += [f"{show_size(row.size_bytes):>11}  {row.path}" for row in biggest]
    elif biggest is None:
        lines += ["", "biggest paths: not shown, it holds no file system that can be read here"]
    return "\n".join(lines) + "\n"
