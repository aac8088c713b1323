# SPDX-License-Identifier: Apache-2.0
"""Signatures beside a plugin in its registry, where cosign puts and looks for them.

The older form is an image at the tag sha256-HEX.sig, a layer a signature. The newer one is an artifact of its own whose
`subject` is the plugin (`referrers.py`). Both are read and both are written: each cosign verifies one of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volant.errors import InvalidInput, NotFound, NotPermitted, Unreachable
from volant.registries import skopeo
from volant.registries.http_api import RegistryApi
from volant.registries.layout import EMPTY_TYPE, MANIFEST_TYPE, Layout, find_blob, is_descriptor
from volant.registries.references import find_repository
from volant.registries.referrers import Descriptor, list_referrers, name_tag, read_index, tell_registry
from volant.registries.work_folders import make_work_folder
from volant.signatures import media_types

if TYPE_CHECKING:
    from volant.signatures.keys import PrivateKey

# Of each form: a registry may hold any number, and each costs whoever looks.
MOST_SIGNATURES = 32
MOST_BYTES = 1 << 20
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True)
class Signatures:
    """`documents`: each with its signature, in base64. `bundles`: as they are in the registry."""

    documents: tuple[tuple[bytes, str], ...] = ()
    bundles: tuple[bytes, ...] = ()


def fetch_signatures(repository: str, digest: str) -> Signatures:
    """What a registry has for the artifact of this digest; none of it is checked. Raises Unreachable, NotPermitted."""
    with make_work_folder("signatures") as folder:
        layers = _pull_layers(folder / "documents", f"{repository}:{name_tag(digest)}.sig")
        documents = tuple(_read_documents(folder / "documents", layers))
        return Signatures(documents, tuple(_fetch_bundles(folder, repository, digest)))


def push_signature(key: PrivateKey, repository: str, manifest: bytes) -> None:
    """Sign what a registry has by this manifest. Signatures that are there stay; ours is not written twice."""
    from volant.signatures.bundle import is_artifact_trusted

    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    with make_work_folder("signatures") as folder:
        _push_document(key, folder / "signed", repository, digest)
        bundles = _fetch_bundles(folder, repository, digest)
        if not any(is_artifact_trusted([key.public_key()], bundle, digest) for bundle in bundles):
            subject = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(manifest)}
            _push_bundle(key, folder / "bundle", repository, subject)


def _push_document(key: PrivateKey, folder: Path, repository: str, digest: str) -> None:
    from volant.signatures.simple_signing import is_trusted, make_document, sign_document

    place = f"{repository}:{name_tag(digest)}.sig"
    layers = _pull_layers(folder, place)
    if any(is_trusted([key.public_key()], *found, digest) for found in _read_documents(folder, layers)):
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
    skopeo.push(folder, place, f"push the signature to {place}", quiet=True)


def _push_bundle(key: PrivateKey, folder: Path, repository: str, subject: Mapping[str, Any]) -> None:
    from volant.signatures.bundle import make_artifact_bundle

    layout = Layout(folder)
    bundle = layout.write_document(make_artifact_bundle(key, subject["digest"]))
    written = layout.write_manifest(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": media_types.BUNDLE,
            "config": {"mediaType": EMPTY_TYPE, **layout.write_document({})},
            "layers": [{"mediaType": media_types.BUNDLE, **bundle}],
            "subject": dict(subject),
            "annotations": dict(media_types.BUNDLE_ANNOTATIONS),
        }
    )
    place = f"{repository}@{written['digest']}"
    skopeo.push(folder, place, f"push the signature to {place}", quiet=True)
    described = {"artifactType": media_types.BUNDLE, "annotations": dict(media_types.BUNDLE_ANNOTATIONS)}
    manifest = find_blob(folder, written["digest"]).read_bytes()
    try:
        tell_registry(RegistryApi(repository), subject["digest"], manifest, {**written, **described})
    except (Unreachable, NotPermitted) as error:
        # The older form is there, and skopeo may know of this registry what we do not (registries.conf).
        click.echo(f"warning: {error}", err=True)


def _pull_layers(folder: Path, place: str) -> list[dict[str, Any]]:
    """Those of an image of signatures, pulled; none where there is no such image."""
    try:
        return list(_pull_small(folder, place)["layers"])
    except NotFound:
        return []


def _pull_small(folder: Path, place: str) -> dict[str, Any]:
    """The manifest of what is pulled, once it has said that it is small. Raises InvalidInput, NotFound."""
    content = skopeo.inspect(place, f"fetch signatures from {place}")
    manifest = _parse(content, place)
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not all(map(is_descriptor, layers)):
        raise InvalidInput(f"cannot read the signature {place}: its manifest is not valid")
    if sum(layer["size"] for layer in layers) > MOST_SIGNATURES * MOST_BYTES:
        raise InvalidInput(f"cannot read the signature {place}: it is larger than {MOST_SIGNATURES} MiB")
    # By the digest that was just looked at: a tag may move.
    exact = f"{find_repository(place)}@sha256:{hashlib.sha256(content).hexdigest()}"
    skopeo.pull(exact, folder, f"fetch signatures from {place}", quiet=True)
    return manifest


def _read_documents(folder: Path, layers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, str]]:
    """Each with its signature."""
    for layer in layers[:MOST_SIGNATURES]:
        signature = (layer.get("annotations") or {}).get(media_types.SIGNATURE_ANNOTATION)
        if layer.get("mediaType") == media_types.DOCUMENT and isinstance(signature, str):
            yield _read_blob(folder, layer), signature


def _fetch_bundles(folder: Path, repository: str, digest: str) -> Iterator[bytes]:
    """Of artifacts that say themselves that they belong to this one: whatever a list says."""
    count = 0
    for number, referrer in enumerate(_list_bundles(repository, digest)):
        here = folder / f"bundle-{number}"
        with suppress(NotFound, InvalidInput):  # gone meanwhile, or no signature at all
            manifest = _pull_small(here, f"{repository}@{referrer['digest']}")
            subject = manifest.get("subject")
            if not isinstance(subject, dict) or subject.get("digest") != digest:
                continue
            for layer in manifest["layers"][:1]:
                if str(layer.get("mediaType")).startswith(media_types.BUNDLES):
                    yield _read_blob(here, layer)
                    count += 1
        if count == MOST_SIGNATURES:
            return


def _list_bundles(repository: str, digest: str) -> list[Descriptor]:
    try:
        found = list_referrers(RegistryApi(repository), digest, media_types.BUNDLE)
    except (Unreachable, NotPermitted) as error:
        click.echo(f"warning: {error}", err=True)
        found = read_index(repository, digest)
    return [entry for entry in found if _may_be_bundle(entry)][: 2 * MOST_SIGNATURES]


def _may_be_bundle(entry: Descriptor) -> bool:
    """Who copies an index may leave the type out, and some registries name that of the config."""
    kind = entry.get("artifactType") or EMPTY_TYPE
    return kind == EMPTY_TYPE or str(kind).startswith(media_types.BUNDLES)


def _read_blob(folder: Path, descriptor: Mapping[str, Any]) -> bytes:
    """skopeo has compared its digest."""
    with find_blob(folder, descriptor["digest"]).open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InvalidInput(f"cannot read a signature: it is larger than {MOST_BYTES >> 20} MiB")
    return content


def _parse(content: bytes, place: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"cannot read the signature {place}: it is no manifest")
    return found
