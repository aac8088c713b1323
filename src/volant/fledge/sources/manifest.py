# SPDX-License-Identifier: Apache-2.0
"""From an image index or manifest to an OciImage, wherever the blobs lie (image-spec: image-index.md, manifest.md).

Docker's own media types mean the same as OCI's and are told apart by what the document contains.
"""

from __future__ import annotations

import json
import os
import platform as host
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

from volant.errors import InvalidInput, NotFound
from volant.fledge.digests import DigestChecks, check_bytes, parse_digest
from volant.fledge.image import Layer, OciImage

# Registries take no manifest above 4 MiB; parsed JSON takes many times its size.
MAX_DOCUMENT_BYTES = 4 << 20
MAX_NESTED_INDEXES = 8
# Docker's own limit; overlayfs cannot stack more either.
MAX_LAYERS = 127
_REFERENCE_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Blob(NamedTuple):
    """A byte range of an open descriptor."""

    descriptor: int
    offset: int
    length: int


class BlobStore(Protocol):
    """Where the blobs of one image lie."""

    @property
    def name(self) -> str:
        """What errors call the store: a path or a reference."""

    def find_blob(self, digest: str) -> Blob | None:
        """The blob of a digest that `parse_digest` accepts, not yet checked; None where there is none."""


def read_document(blob: Blob, what: str, digest: str | None) -> dict[str, Any]:
    """A JSON object from a blob, checked against its digest first. Raises InvalidInput."""
    if blob.length > MAX_DOCUMENT_BYTES:
        raise InvalidInput(f"cannot read {what}: {blob.length} bytes are too many for such a document")
    content = os.pread(blob.descriptor, blob.length, blob.offset)
    if digest is not None:
        check_bytes(what, content, digest)
    return parse_document(content, what)


def parse_json(content: bytes) -> Any:
    """What a document of an image says. Raises ValueError, RecursionError.

    Halves of surrogate pairs that stand alone, which no file and no output takes, are U+FFFD here as for Docker.
    """
    value = json.loads(content)
    text = json.dumps(value, ensure_ascii=False)
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value if whole == text else json.loads(whole)


def parse_document(content: bytes, what: str) -> dict[str, Any]:
    try:
        document = parse_json(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read {what}: it is not JSON", details=str(error)) from error
    if not isinstance(document, dict):
        raise InvalidInput(f"cannot read {what}: it is no JSON object")
    return document


def parse_platform(platform: str | None) -> tuple[str, str, str]:
    """os, architecture and variant of `linux/arm64/v8`, `linux/amd64` or `arm64`; None: Linux on this machine."""
    if platform is None:
        machine = host.machine()
        return "linux", _MACHINES.get(machine, machine), ""
    parts = platform.split("/")
    if len(parts) == 1:
        parts.insert(0, "linux")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidInput(
            f"cannot understand the platform {platform!r}",
            resolution="write it as linux/amd64 or linux/arm64",
        )
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


def open_image(
    store: BlobStore,
    descriptor: Mapping[str, Any],
    stack: ExitStack,
    *,
    platform: str | None,
    reference: str = "",
) -> OciImage:
    """The image that an index entry (a content descriptor) leads to, through nested indexes. Raises InvalidInput."""
    document, digest = dict(descriptor), ""
    for _ in range(MAX_NESTED_INDEXES):
        digest = str(document.get("digest"))
        document = read_document(
            _require_blob(store, digest), f"the manifest {digest[:19]} of {store.name}", digest
        )
        if "layers" in document:
            return open_manifest(store, document, stack, platform=platform, reference=reference)
        document = choose_manifest(document, store.name, platform)
    raise InvalidInput(f"cannot read {store.name}: its indexes are nested too deep")


def choose_manifest(index: Mapping[str, Any], where: str, platform: str | None) -> dict[str, Any]:
    """The entry of an index for a platform. An index with one image only is that image. Raises InvalidInput."""
    entries = index.get("manifests")
    if not isinstance(entries, list):
        raise InvalidInput(f"cannot read {where}: it has neither layers nor manifests")
    images = [entry for entry in entries if isinstance(entry, dict) and _is_image(entry)]
    wanted = parse_platform(platform)
    matching = [entry for entry in images if _matches(_platform_of(entry), wanted)]
    if not matching and len(images) == 1 and (platform is None or _platform_of(images[0]) == ("", "", "")):
        matching = images
    if not matching:
        found = sorted({"/".join(filter(None, _platform_of(entry))) or "unknown" for entry in images})
        raise InvalidInput(
            f"cannot use {where}: it has no image for {'/'.join(filter(None, wanted))}",
            details=[f"it has: {', '.join(found)}" if found else "it has no image at all"],
            resolution="choose one of its platforms with --platform",
        )
    # The entry without a variant, or with the wanted one, before those with others; then as the index orders them.
    return min(matching, key=lambda entry: _platform_of(entry)[2] not in ("", wanted[2]))


def _is_image(entry: Mapping[str, Any]) -> bool:
    annotations = entry.get("annotations") or {}
    is_attestation = isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations
    return not is_attestation and not entry.get("artifactType") and "unknown" not in _platform_of(entry)[:2]


def _platform_of(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return "", "", ""
    return (
        str(platform.get("os") or ""),
        str(platform.get("architecture") or ""),
        str(platform.get("variant") or ""),
    )


def _matches(found: tuple[str, str, str], wanted: tuple[str, str, str]) -> bool:
    return found[:2] == wanted[:2] and (not wanted[2] or found[2] in ("", wanted[2]))


def _require_blob(store: BlobStore, digest: str) -> Blob:
    parse_digest(digest)
    blob = store.find_blob(digest)
    if blob is None:
        raise InvalidInput(
            f"cannot read {store.name}: the blob {digest} is missing",
            resolution="save or fetch the whole image again",
        )
    return blob


def open_manifest(
    store: BlobStore,
    manifest: Mapping[str, Any],
    stack: ExitStack,
    *,
    platform: str | None,
    reference: str = "",
) -> OciImage:
    """The image of a manifest document whose blobs lie in `store`. Raises InvalidInput."""
    config_entry = manifest.get("config")
    config_digest = str(config_entry.get("digest")) if isinstance(config_entry, dict) else ""
    entries = manifest.get("layers")
    if not config_digest or not isinstance(entries, list):
        raise InvalidInput(f"cannot read {store.name}: its manifest has no config or no layers")
    config = read_document(
        _require_blob(store, config_digest), f"the config {config_digest[:19]} of {store.name}", config_digest
    )
    blobs: list[tuple[Blob, str, str]] = []
    for number, entry in enumerate(entries, start=1):
        entry = entry if isinstance(entry, dict) else {}
        media_type = str(entry.get("mediaType") or "")
        if "encrypted" in media_type:
            raise InvalidInput(
                f"cannot read layer {number} of {store.name}: it is encrypted",
                resolution="decrypt the image first, e.g. with skopeo copy --decryption-key",
            )
        digest = str(entry.get("digest"))
        blob = _require_blob(store, digest)
        if isinstance(entry.get("size"), int) and entry["size"] != blob.length:
            raise InvalidInput(
                f"cannot use layer {number} of {store.name}: {blob.length} bytes are there instead of {entry['size']}",
                resolution="save or fetch the image again",
            )
        blobs.append((blob, digest, media_type))
    return make_image(
        config, config_digest, blobs, stack, where=store.name, platform=platform, reference=reference
    )


def make_image(
    config: Mapping[str, Any], config_digest: str, blobs: Sequence[tuple[Blob, str, str]], stack: ExitStack, *,
    where: str, platform: str | None, reference: str,
) -> OciImage:  # fmt: skip
    """Put config and layers, as (blob, digest or "", media type), together. Raises InvalidInput."""
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    diff_ids = diff_ids if isinstance(diff_ids, list) else []
    if len(diff_ids) != len(blobs):
        raise InvalidInput(f"cannot use {where}: it has {len(blobs)} layers and diff ids for {len(diff_ids)}")
    if len(blobs) > MAX_LAYERS:
        raise InvalidInput(
            f"cannot use {where}: {len(blobs)} layers are more than the {MAX_LAYERS} that an image may have"
        )
    for diff_id in diff_ids:
        parse_digest(diff_id)
    if platform is not None and not config.get("architecture") == parse_platform(platform)[1]:
        raise InvalidInput(
            f"cannot use {where}: it is for linux/{config.get('architecture')}, not for {platform}",
            resolution="build or save the image for the platform that you want",
        )
    layers = tuple(
        Layer(blob.descriptor, blob.offset, blob.length, digest, diff_id, media_type)
        for (blob, digest, media_type), diff_id in zip(blobs, diff_ids, strict=True)
    )
    # Last, so that the stack ends the checks before it closes the descriptors that they read.
    checks = stack.enter_context(DigestChecks())
    return OciImage(config, layers, config_digest, checks, reference)


def choose_reference(
    index: Mapping[str, Any], where: str, tag: str | None, transport: str
) -> tuple[dict[str, Any], str]:
    """The entry of a layout's index.json that has a tag or name, and that name. Raises InvalidInput, NotFound.

    `transport` is how --image spells such a layout. Without `tag` the layout must hold one image; several entries
    without names are the platforms of one.
    """
    entries = index.get("manifests")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    entries = [entry for entry in entries if _is_image(entry)]
    names = [_reference_of(entry) for entry in entries]
    if tag is not None:
        for entry, name in zip(entries, names, strict=True):
            if matches_tag(name, tag):
                return entry, name
        raise no_such_tag(where, tag, names)
    if len(entries) == 1:
        return entries[0], names[0]
    if entries and len(set(names)) == 1:
        return {"manifests": entries}, names[0]
    raise several_images(where, names, transport)


def _reference_of(entry: Mapping[str, Any]) -> str:
    annotations = entry.get("annotations")
    if isinstance(annotations, dict):
        for key in _REFERENCE_ANNOTATIONS:
            if annotations.get(key):
                return str(annotations[key])
    return ""


def matches_tag(name: str, tag: str) -> bool:
    """Whether a saved name is what a person means by `tag`: the whole name, its last part, or its tag alone."""
    return bool(name) and (
        name in (tag, f"{tag}:latest") or name.endswith((f"/{tag}", f"/{tag}:latest", f":{tag}"))
    )


def no_such_tag(where: str, tag: str, names: Sequence[str]) -> NotFound:
    known = ", ".join(sorted(filter(None, names))) or "images without a name"
    return NotFound(f"cannot find the image {tag} in {where}", details=[f"it has: {known}"])


def several_images(where: str, names: Sequence[str], transport: str) -> InvalidInput:
    if not names:
        return InvalidInput(f"cannot use {where}: it holds no image")
    known = sorted(filter(None, names))
    return InvalidInput(
        f"cannot choose an image: {where} holds {len(names)}",
        details=known,
        resolution=f"choose one by its name, e.g. --image {transport}{where}:{known[0]}"
        if known
        else "give them names, or save the one you want into an archive of its own",
    )
