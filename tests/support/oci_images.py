# SPDX-License-Identifier: Apache-2.0
"""Builds OCI layouts and docker-archives for tests from layers given as tar bytes, with tarfile and hashlib alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

MEDIA_TYPES = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def make_entry(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", *, link: str = "", mode: int | None = None,
    uid: int = 0, gid: int = 0, mtime: float = 0, device: tuple[int, int] = (0, 0),
    pax: Mapping[str, str] | None = None,
) -> tuple[tarfile.TarInfo, bytes]:  # fmt: skip
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.uid, info.gid, info.mtime = kind, link, uid, gid, mtime
    info.mode = mode if mode is not None else (0o755 if kind == tarfile.DIRTYPE else 0o644)
    info.devmajor, info.devminor = device
    info.size = len(content)
    info.pax_headers = dict(pax or {})
    return info, content


def make_layer(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def compress(layer: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(layer, 1, mtime=0)
    if compression == "zstd":
        return zstandard.compress(layer, 1)
    return layer


def make_config(
    layers: Sequence[bytes], config: Mapping[str, Any] | None = None, architecture: str = "amd64"
) -> bytes:
    document = {
        "architecture": architecture, "os": "linux", "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }  # fmt: skip
    return json.dumps(document).encode()


def write_layout(
    folder: Path, layers: Sequence[bytes], *, compression: str = "plain", config: Mapping[str, Any] | None = None,
    name: str = "latest", architecture: str = "amd64",
) -> Path:  # fmt: skip
    """An OCI layout of one image."""
    entry = write_image(folder, layers, compression=compression, config=config, architecture=architecture)
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    write_index(folder, [entry])
    return folder


def write_index(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": list(entries),
    }
    (folder / "index.json").write_text(json.dumps(index))


def write_blob(folder: Path, content: bytes) -> dict[str, Any]:
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    digest = digest_of(content)
    (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    return {"digest": digest, "size": len(content)}


def write_image(
    folder: Path, layers: Sequence[bytes], *, compression: str = "plain", config: Mapping[str, Any] | None = None,
    architecture: str = "amd64",
) -> dict[str, Any]:  # fmt: skip
    """The blobs of one image; returns its manifest's index entry."""
    layer_type = "application/vnd.oci.image.layer.v1.tar" + MEDIA_TYPES[compression]
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   **write_blob(folder, make_config(layers, config, architecture))},
        "layers": [{"mediaType": layer_type, **write_blob(folder, compress(layer, compression))} for layer in layers],
    }  # fmt: skip
    return {
        "mediaType": manifest["mediaType"], **write_blob(folder, json.dumps(manifest).encode()),
        "platform": {"os": "linux", "architecture": architecture},
    }  # fmt: skip


def write_docker_archive(
    path: Path,
    layers: Sequence[bytes],
    *,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = ("app:1.0.0",),
) -> Path:
    """What `docker save` wrote before version 25."""
    document = make_config(layers, config)
    config_name = digest_of(document).removeprefix("sha256:") + ".json"
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    listing = json.dumps([{"Config": config_name, "RepoTags": list(tags), "Layers": names}]).encode()
    members = [(config_name, document), *zip(names, layers, strict=True), ("manifest.json", listing)]
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            archive.addfile(*(lambda pair: (pair[0], io.BytesIO(pair[1])))(make_entry(name, content=content)))
    return path


def pack_layout(folder: Path, path: Path) -> Path:
    """An OCI layout as one tar."""
    with tarfile.open(path, "w") as archive:
        for member in sorted(folder.rglob("*")):
            if member.is_file():
                archive.add(member, str(member.relative_to(folder)))
    return path
