# SPDX-License-Identifier: Apache-2.0
"""Signatures beside a plugin in its registry, where cosign puts and looks for them.

The older form is an image at the tag sha256-HEX.sig, a layer a signature. The newer one is an artifact of its own whose
`subject` is the plugin (OCI distribution-spec 1.1, "Listing Referrers"): registries that do not list referrers have an
index of them at the tag sha256-HEX. Both are read. The older one is written, which every cosign verifies: an index
is everybody's, and skopeo would leave out what others wrote into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volant.errors import InvalidInput, NotFound
from volant.registries import skopeo
from volant.registries.layout import MANIFEST_TYPE, Layout, find_blob
from volant.registries.work_folders import make_work_folder
from volant.signatures import media_types

if TYPE_CHECKING:
    from volant.signatures.keys import PrivateKey

# Of each form: a registry may hold any number, and each costs whoever looks.
MOST_SIGNATURES = 32
MOST_BYTES = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True)
class Signatures:
    """`documents`: each with its signature, in base64. `bundles`: as they are in the registry."""

    documents: tuple[tuple[bytes, str], ...] = ()
    bundles: tuple[bytes, ...] = ()


def fetch_signatures(repository: str, digest: str) -> Signatures:
    """What a registry has for the artifact of this digest; none of it is checked. Raises Unreachable, NotPermitted."""
    with make_work_folder("signatures") as folder:
        layers = _pull_layers(folder / "documents", repository, digest)
        documents = tuple(_read_documents(folder / "documents", layers))
        return Signatures(documents, tuple(_fetch_bundles(folder, repository, digest)))


def push_signature(key: PrivateKey, repository: str, digest: str) -> None:
    """Sign what a registry has, in the older form. Signatures that are there stay; ours is not written twice."""
    from volant.signatures.simple_signing import is_trusted, make_document, sign_document

    with make_work_folder("signatures") as work_folder:
        folder = work_folder / "signed"
        layers = _pull_layers(folder, repository, digest)
        keys = [key.public_key()]
        if any(is_trusted(keys, *found, digest) for found in _read_documents(folder, layers)):
            return
        layout = Layout(folder)
        document = make_document(repository, digest)
        annotations = {media_types.SIGNATURE_ANNOTATION: sign_document(key, document)}
        written = layout.write_document(document)
        layers.append({"mediaType": media_types.DOCUMENT, **written, "annotations": annotations})
        diff_ids = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
        config = {"architecture": "", "os": "", "config": {}, "rootfs": diff_ids}
        layout.write_manifest(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": _CONFIG_TYPE, **layout.write_document(config)},
                "layers": layers,
            }
        )
        place = _find_tag(repository, digest, ".sig")
        skopeo.push(folder, place, f"push the signature to {place}", quiet=True)


def _find_tag(repository: str, digest: str, suffix: str = "") -> str:
    return f"{repository}:{digest.replace(':', '-')}{suffix}"


def _pull_layers(folder: Path, repository: str, digest: str) -> list[dict[str, Any]]:
    """Those of the image of signatures, pulled; none where there is no such image."""
    place = _find_tag(repository, digest, ".sig")
    try:
        skopeo.pull(place, folder, f"fetch signatures from {place}", quiet=True)
    except NotFound:
        return []
    layers: list[dict[str, Any]] = _read_pulled(folder)["layers"]
    return layers


def _read_documents(folder: Path, layers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, str]]:
    """Each with its signature."""
    for layer in layers[:MOST_SIGNATURES]:
        signature = (layer.get("annotations") or {}).get(media_types.SIGNATURE_ANNOTATION)
        if layer.get("mediaType") == media_types.DOCUMENT and isinstance(signature, str):
            yield _read_blob(folder, layer), signature


def _fetch_bundles(folder: Path, repository: str, digest: str) -> Iterator[bytes]:
    for number, referrer in enumerate(_list_referrers(repository, digest)):
        # Who copies an index may leave the type out.
        if not str(referrer.get("artifactType", media_types.BUNDLES)).startswith(media_types.BUNDLES):
            continue
        place = f"{repository}@{referrer['digest']}"
        here = folder / f"bundle-{number}"
        with suppress(NotFound):
            skopeo.pull(place, here, f"fetch the signature {place}", quiet=True)
            for layer in _read_pulled(here)["layers"][:1]:
                if str(layer.get("mediaType")).startswith(media_types.BUNDLES):
                    yield _read_blob(here, layer)


def _list_referrers(repository: str, digest: str) -> list[dict[str, Any]]:
    """Artifacts whose subject is this one, as the registry's index of them says."""
    place = _find_tag(repository, digest)
    try:
        index = _parse(skopeo.inspect(place, f"list the signatures at {place}"), place)
    except NotFound:
        return []
    found = index.get("manifests")
    return (
        [entry for entry in found if _is_descriptor(entry)][:MOST_SIGNATURES]
        if isinstance(found, list)
        else []
    )


def _read_pulled(folder: Path) -> dict[str, Any]:
    """The manifest of what was pulled, whose layers are descriptors. InvalidInput for anything else."""
    index = json.loads((folder / "index.json").read_bytes())
    descriptor = index["manifests"][0]
    manifest = _parse(_read_blob(folder, descriptor), "a signature")
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not all(map(_is_descriptor, layers)):
        raise InvalidInput("cannot read a signature: its manifest is not valid")
    return manifest


def _read_blob(folder: Path, descriptor: Mapping[str, Any]) -> bytes:
    """skopeo has compared its digest."""
    if descriptor["size"] > MOST_BYTES:
        raise InvalidInput(f"cannot read a signature: it is larger than {MOST_BYTES >> 20} MiB")
    return find_blob(folder, descriptor["digest"]).read_bytes()


def _parse(content: bytes, place: str) -> dict[str, Any]:
    try:
        found = json.loads(content) if len(content) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"cannot read {place}: it is no manifest")
    return found


def _is_descriptor(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _DIGEST.fullmatch(str(value.get("digest"))) is not None
        and isinstance(value.get("size"), int)
        and value["size"] >= 0
        and isinstance(value.get("annotations") or {}, dict)
    )
