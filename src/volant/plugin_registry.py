# SPDX-License-Identifier: Apache-2.0
"""Plugins in OCI registries, carried by skopeo: logins, credential helpers, TLS and retries are its own.

A plugin is an artifact (OCI image-spec 1.1, "Guidelines for Artifact Usage"): a manifest with our `artifactType`, the
empty config, and as layers the archive's bytes in parts of 64 MiB. A part that the other side has already is not sent,
so a transfer that was cut off goes on where it was, and a plugin built again sends what differs from there on.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from volant.errors import Conflict, InvalidInput, NotFound, NotPermitted, ToolFailed, Unreachable
from volant.process import require_tool, run_in_terminal, run_tool

ARTIFACT_TYPE = "application/vnd.volant.plugin.v1"
PART_TYPE = "application/vnd.volant.plugin.part.v1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
PART_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
MOST_PARTS = 8192
MOST_MANIFEST_BYTES = 4 << 20
# How long a pull that was cut off may wait to be gone on with.
STALE_SECONDS = 7 * 86_400
_TAG = "plugin"
_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?)"
    r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_NO_ANSWER = re.compile(
    r"no such host|connection refused|i/o timeout|network is unreachable|TLS handshake", re.IGNORECASE
)
_NOT_LET_IN = re.compile(r"unauthorized|authentication required|denied|invalid username", re.IGNORECASE)
_NOT_THERE = re.compile(r"manifest unknown|name unknown|not found|repository name not known", re.IGNORECASE)


def is_reference(text: str) -> bool:
    """Whether this names something in a registry: HOST/PATH[:TAG], whose host has a dot or a port, or is localhost."""
    match = _REFERENCE.fullmatch(text.removeprefix("docker://"))
    host = match["host"] if match else ""
    return host == "localhost" or any(character in host for character in ".:[")


def is_on_loopback(reference: str) -> bool:
    """Whether a registry is on this machine, where plain HTTP is allowed as Docker allows it."""
    host = reference.lstrip("/").partition("/")[0]
    return re.fullmatch(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", host) is not None


def push_plugin(archive: IO[bytes], reference: str, *, name: str, version: str, description: str = "") -> str:
    """Send an archive; returns the digest of its manifest, which is the same for the same archive.

    Raises InvalidInput, ToolMissing, Unreachable, NotPermitted, ToolFailed.
    """
    place = check_reference(reference)
    annotations = {
        TITLE: name,
        "org.opencontainers.image.version": version,
        **({"org.opencontainers.image.description": description} if description else {}),
    }
    # As large as the plugin: not where memory may be the disk.
    with tempfile.TemporaryDirectory(prefix="volant-push-", dir="/var/tmp") as folder:  # made private
        layout = _Layout(Path(folder))
        digest = _write_artifact(layout, archive, reference, annotations)
        tls = ["--dest-tls-verify=false"] if is_on_loopback(place) else []
        _copy([*tls, f"oci:{folder}:{_TAG}", f"docker://{place}"], f"push the plugin to {reference}")
    return digest


def _write_artifact(
    layout: _Layout, archive: IO[bytes], reference: str, annotations: Mapping[str, str]
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
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": EMPTY_TYPE, **_found(layout.write(io.BytesIO(b"{}"), 2))},
        "layers": parts,
        "annotations": dict(annotations),
    }
    content = json.dumps(manifest, separators=(",", ":")).encode()
    written = _found(layout.write(io.BytesIO(content), len(content)))
    layout.write_index(written)
    digest: str = written["digest"]
    return digest


@dataclass(frozen=True, slots=True)
class PulledPlugin:
    """`parts` are the files whose bytes, one after the other, are the archive."""

    digest: str
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
    tls = ["--src-tls-verify=false"] if is_on_loopback(place) else []
    with ExitStack() as stack:
        folder = stack.enter_context(_resumed(place))
        inspect_tls = ["--tls-verify=false"] if tls else []
        what = f"pull the plugin {reference}"
        content = _run(["inspect", "--raw", *inspect_tls, f"docker://{place}"], what).encode()
        manifest = read_manifest(content, reference)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        # By the digest that was just looked at: a tag may move.
        exact = re.sub(r"(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@.*)?$", "", place.partition("/")[2])
        source = f"docker://{place.partition('/')[0]}/{exact}@{digest}"
        _copy([*tls, source, f"oci:{folder}:{_TAG}"], what)
        parts = [folder / "blobs" / "sha256" / layer["digest"][7:] for layer in manifest["layers"]]
        yield PulledPlugin(digest, sum(layer["size"] for layer in manifest["layers"]), parts)
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


class _Layout:
    """An OCI image layout that is being written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def write(self, source: IO[bytes], most_bytes: int) -> dict[str, Any]:
        """The next bytes as a blob, described; empty where there are none."""
        digest, size = hashlib.sha256(), 0
        draft = self._blobs / ".draft"
        with draft.open("wb") as target:
            while size < most_bytes and (chunk := source.read(min(CHUNK_BYTES, most_bytes - size))):
                digest.update(chunk)
                target.write(chunk)
                size += len(chunk)
        if not size:
            draft.unlink()
            return {}
        draft.rename(self._blobs / digest.hexdigest())
        return {"digest": f"sha256:{digest.hexdigest()}", "size": size}

    def write_index(self, manifest: Mapping[str, Any]) -> None:
        annotations = {"org.opencontainers.image.ref.name": _TAG}
        entry = {"mediaType": MANIFEST_TYPE, **manifest, "annotations": annotations}
        (self._folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _found(blob: dict[str, Any]) -> dict[str, Any]:
    assert blob, "a document has bytes"
    return blob


def check_reference(reference: str) -> str:
    """A reference as skopeo wants it. Raises InvalidInput."""
    if not is_reference(reference):
        raise InvalidInput(
            f"cannot use {reference!r} as a place in a registry",
            resolution="name registry, repository and tag: registry.example.com/team/nginx:1.27 (of an image,"
            " fledge build --image makes a plugin)",
        )
    return reference.removeprefix("docker://")


@contextmanager
def _resumed(place: str) -> Iterator[Path]:
    """The folder of this pull, with what an earlier one left of it; Conflict while another process is at it."""
    cache = _find_cache_folder()
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    _sweep(cache)
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    descriptor = os.open(cache / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                f"cannot pull {place}: another program is pulling it", resolution="wait for it"
            ) from error
        yield cache / name
    finally:
        os.close(descriptor)


def _find_cache_folder() -> Path:
    if home := os.environ.get("VOLANT_HOME"):
        return Path(home).absolute() / "cache" / "pulls"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "volant" / "pulls"


def _sweep(cache: Path) -> None:
    oldest = time.time() - STALE_SECONDS
    for path in cache.iterdir():
        with suppress(OSError):
            if path.is_dir() and path.stat().st_mtime < oldest:
                shutil.rmtree(path)


def _copy(arguments: Sequence[str], what: str) -> None:
    """skopeo shows its own bars to people; programs get its words only where it fails."""
    with tempfile.TemporaryDirectory(prefix="volant-skopeo-") as folder:
        line = ["--tmpdir", folder, "copy", "--retry-times", "3", *arguments]
        if not sys.stderr.isatty():
            _run(line, what)
        elif status := run_in_terminal([require_tool("skopeo"), "--insecure-policy", *line]):
            raise ToolFailed(f"cannot {what}: skopeo ended with {status}", resolution="see its output above")


def _run(arguments: Sequence[str], what: str) -> str:
    try:
        return run_tool([require_tool("skopeo"), "--insecure-policy", *arguments], what=what).stdout
    except ToolFailed as error:
        words = str(error)
        if _NO_ANSWER.search(words):
            raise Unreachable(
                f"cannot {what}: no answer",
                details=error.details,
                resolution="check the name and the network",
            ) from error
        if _NOT_LET_IN.search(words):
            raise NotPermitted(
                f"cannot {what}: the registry does not let you",
                details=error.details,
                resolution="log in with skopeo, podman or docker login",
            ) from error
        if _NOT_THERE.search(words):
            raise NotFound(f"cannot {what}: it is not there", details=error.details) from error
        raise
