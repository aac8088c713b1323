# SPDX-License-Identifier: Apache-2.0
"""An OCI image layout in a folder: what skopeo takes to a registry, and brings from one."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
CHUNK_BYTES = 1 << 20
# Its name in the layout, not in the registry.
TAG = "plugin"


class Layout:
    """One that is being written, or added to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def write(self, source: IO[bytes], most_bytes: int) -> dict[str, Any]:
        """The next bytes as a blob, described; {} where there are none."""
        return self.write_chunks(_read(source, most_bytes))

    def write_chunks(self, chunks: Iterable[bytes]) -> dict[str, Any]:
        """Bytes in pieces as a blob, described; {} where there are none."""
        digest, size = hashlib.sha256(), 0
        draft = self._blobs / ".draft"
        with draft.open("wb") as target:
            for chunk in chunks:
                digest.update(chunk)
                target.write(chunk)
                size += len(chunk)
        if not size:
            draft.unlink()
            return {}
        draft.rename(self._blobs / digest.hexdigest())
        return {"digest": f"sha256:{digest.hexdigest()}", "size": size}

    def write_document(self, content: bytes | Mapping[str, Any]) -> dict[str, Any]:
        """A small blob, described: bytes, or JSON."""
        if not isinstance(content, bytes):
            content = json.dumps(content, separators=(",", ":")).encode()
        described = self.write(io.BytesIO(content), len(content))
        assert described, "a document has bytes"
        return described

    def write_manifest(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """What the layout is of, described."""
        described = {"mediaType": manifest["mediaType"], **self.write_document(manifest)}
        entry = {**described, "annotations": {"org.opencontainers.image.ref.name": TAG}}
        index = {"schemaVersion": 2, "manifests": [entry]}
        (self.folder / "index.json").write_text(json.dumps(index))
        return described


def _read(source: IO[bytes], most_bytes: int) -> Iterator[bytes]:
    while most_bytes > 0 and (chunk := source.read(min(CHUNK_BYTES, most_bytes))):
        most_bytes -= len(chunk)
        yield chunk


def find_blob(folder: Path, digest: str) -> Path:
    """`digest` as checked: sha256 and 64 hexadecimal digits."""
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def is_descriptor(value: Any) -> bool:
    """Whether somebody else's JSON describes a blob, in sha256."""
    return (
        isinstance(value, dict)
        and re.fullmatch(r"sha256:[0-9a-f]{64}", str(value.get("digest"))) is not None
        and type(value.get("size")) is int
        and value["size"] >= 0
        and isinstance(value.get("annotations") or {}, dict)
    )
