# SPDX-License-Identifier: Apache-2.0
"""Plugins in OCI registries, carried by skopeo: logins, credential helpers, TLS and retries are its own.

A plugin is an artifact (OCI image-spec 1.1, "Guidelines for Artifact Usage"): a manifest with our `artifactType`, the
empty config, and as layers the archive's bytes in parts of 64 MiB. A part that the other side has already is not sent,
so a transfer that was cut off goes on where it was, and a plugin built again sends what differs from there on.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from volant.errors import Conflict, InvalidInput
from volant.registries import skopeo
from volant.registries.layout import CHUNK_BYTES, EMPTY_TYPE, MANIFEST_TYPE, Layout, find_blob
from volant.registries.references import check_reference, find_repository
from volant.registries.work_folders import find_cache_folder, hold_lock, make_work_folder

if TYPE_CHECKING:
    from volant.signatures.keys import PrivateKey

ARTIFACT_TYPE = "application/vnd.volant.plugin.v1"
PART_TYPE = "application/vnd.volant.plugin.part.v1"
TITLE = "org.opencontainers.image.title"
PART_BYTES = 64 << 20
MOST_PARTS = 8192
MOST_MANIFEST_BYTES = 4 << 20
# How long a pull that was cut off may wait to be gone on with.
STALE_SECONDS = 7 * 86_400


def push_plugin(
    archive: IO[bytes],
    reference: str,
    *,
    name: str,
    version: str,
    description: str = "",
    sign_by: PrivateKey | None = None,
) -> str:
    """Send an archive; returns the digest of its manifest, which is the same for the same archive.

    Signed only once it is there: a push that was cut off in between is signed by the next. Raises InvalidInput,
    ToolMissing, Unreachable, NotPermitted, ToolFailed.
    """
    place = check_reference(reference)
    annotations = {
        TITLE: name,
        "org.opencontainers.image.version": version,
        **({"org.opencontainers.image.description": description} if description else {}),
    }
    with make_work_folder("pushes") as folder:
        layout = Layout(folder / "layout")
        digest = _write_artifact(layout, archive, reference, annotations)
        manifest = find_blob(layout.folder, digest).read_bytes()
        skopeo.push(layout.folder, place, f"push the plugin to {reference}")
    if sign_by is not None:
        from volant.registries.signatures import push_signature

        push_signature(sign_by, find_repository(place), manifest)
    return digest


def _write_artifact(
    layout: Layout, archive: IO[bytes], reference: str, annotations: Mapping[str, str]
) -> str:
    parts: list[dict[str, Any]] = []
    while part := layout.write(archive, PART_BYTES):
        parts.append(
            {"mediaType": PART_TYPE, **part, "annotations": {TITLE: f"plugin.tar.gz.{len(parts):04}"}}
        )
    if len(parts) > MOST_PARTS:
        raise InvalidInput(
            f"cannot push {reference}: the plugin is larger than {MOST_PARTS * PART_BYTES >> 30} GiB"
        )
    written = layout.write_manifest(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": EMPTY_TYPE, **layout.write_document({})},
            "layers": parts,
            "annotations": dict(annotations),
        }
    )
    digest: str = written["digest"]
    return digest


@dataclass(frozen=True, slots=True)
class PulledPlugin:
    """`parts` are the files whose bytes, one after the other, are the archive."""

    place: str
    digest: str
    manifest: bytes
    size_bytes: int
    parts: Sequence[Path]

    def read(self) -> Iterator[bytes]:
        for part in self.parts:
            with part.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk


@contextmanager
def pull_plugin(reference: str) -> Iterator[PulledPlugin]:
    """What a registry has under a name, checked by its digests; gone when it is left, kept where it was not whole.

    Raises NotFound, InvalidInput for what is no plugin, and what `push_plugin` raises.
    """
    place = check_reference(reference)
    with ExitStack() as stack:
        folder = stack.enter_context(_resumed(place))
        what = f"pull the plugin {reference}"
        content = skopeo.inspect(place, what)
        manifest = read_manifest(content, reference)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        # By the digest that was just looked at: a tag may move.
        skopeo.pull(f"{find_repository(place)}@{digest}", folder, what)
        parts = [find_blob(folder, layer["digest"]) for layer in manifest["layers"]]
        size_bytes = sum(layer["size"] for layer in manifest["layers"])
        yield PulledPlugin(place, digest, content, size_bytes, parts)
        shutil.rmtree(folder, ignore_errors=True)


def read_manifest(content: bytes, reference: str) -> dict[str, Any]:
    """An artifact's manifest as ours are. Raises InvalidInput."""

    def refuse(why: str, resolution: str = "") -> InvalidInput:
        return InvalidInput(f"cannot pull {reference}: {why}", resolution=resolution)

    try:
        manifest = json.loads(content) if len(content) <= MOST_MANIFEST_BYTES else None
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise refuse("its manifest cannot be read")
    if manifest.get("artifactType") != ARTIFACT_TYPE:
        raise refuse("it is an image and no plugin", f"make a plugin of it and run it: volar run {reference}")
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= MOST_PARTS or not all(map(_is_part, layers)):
        raise refuse("its parts are not those of a plugin")
    return manifest


def _is_part(layer: Any) -> bool:
    return (
        isinstance(layer, dict)
        and layer.get("mediaType") == PART_TYPE
        and re.fullmatch(r"sha256:[0-9a-f]{64}", str(layer.get("digest"))) is not None
        and isinstance(layer.get("size"), int)
        and 0 < layer["size"] <= PART_BYTES
    )


@contextmanager
def _resumed(place: str) -> Iterator[Path]:
    """The folder of this pull, with what an earlier one left of it; Conflict while another process is at it."""
    cache = find_cache_folder("pulls")
    _sweep(cache)
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    with hold_lock(cache / f"{name}.lock") as is_ours:
        if not is_ours:
            raise Conflict(f"cannot pull {place}: another program is pulling it", resolution="wait for it")
        yield cache / name


def _sweep(cache: Path) -> None:
    oldest = time.time() - STALE_SECONDS
    for path in cache.iterdir():
        with suppress(OSError):
            if path.is_dir() and path.stat().st_mtime < oldest:
                shutil.rmtree(path)
