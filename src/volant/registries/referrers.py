# SPDX-License-Identifier: Apache-2.0
"""Artifacts whose `subject` is another one (OCI distribution-spec 1.1, "Listing Referrers").

A registry lists them itself, or has an index of them at the tag sha256-HEX, which those who push keep up to date
("Referrers Tag Schema"). What is listed is anybody's word: each is looked at before it counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from volant.errors import Conflict, InvalidInput, NotFound, Unreachable
from volant.registries import skopeo
from volant.registries.http_api import MOST_BYTES, RegistryApi, Reply
from volant.registries.layout import INDEX_TYPE, MANIFEST_TYPE, is_descriptor

Descriptor = dict[str, Any]
MOST_PAGES = 16
MOST_REFERRERS = 1024
# Somebody else may write the index between our reading and our writing it.
TRIES = 5


def name_tag(digest: str) -> str:
    """The tag that goes with an artifact."""
    return digest.replace(":", "-")


def list_referrers(api: RegistryApi, digest: str, artifact_type: str) -> list[Descriptor]:
    """As the registry lists them, of other types too: not every one filters. By the index where it lists none itself.

    Raises Unreachable, NotPermitted, InvalidInput.
    """
    path = f"referrers/{digest}?artifactType={quote(artifact_type, safe='')}"
    seen: set[str] = set()
    found: list[Descriptor] = []
    while True:
        reply = api.get(path, INDEX_TYPE)
        if not _is_list(reply):
            if not seen and reply.status < 500:
                return read_index(api.repository, digest)
            raise Unreachable(
                f"cannot list what belongs to {api.repository}@{digest}: the registry answered {reply.status}"
            )
        found += _read_descriptors(reply.body, f"{api.repository}@{digest}")
        seen.add(path)
        following = api.find_next(path, reply)
        if following is None or following in seen or len(seen) == MOST_PAGES or len(found) > MOST_REFERRERS:
            return found[:MOST_REFERRERS]
        path = following


def _is_list(reply: Reply) -> bool:
    """Registries that know nothing of this answer 404, and some with a page for people."""
    return reply.status == 200 and reply.media_type == INDEX_TYPE


def read_index(repository: str, digest: str) -> list[Descriptor]:
    """Of the tag, by skopeo."""
    place = f"{repository}:{name_tag(digest)}"
    try:
        return _read_descriptors(skopeo.inspect(place, f"list the signatures at {place}"), place)[
            :MOST_REFERRERS
        ]
    except NotFound:
        return []


def _read_descriptors(content: bytes, place: str) -> list[Descriptor]:
    found = _parse(content, place).get("manifests")
    if found is not None and not isinstance(found, list):
        raise InvalidInput(f"cannot read what belongs to {place}: it is no list")
    return [entry for entry in found or [] if is_descriptor(entry)]


def _parse(content: bytes, place: str) -> dict[str, Any]:
    try:
        found = json.loads(content) if len(content) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"cannot read what belongs to {place}: it is no index")
    return found


def tell_registry(api: RegistryApi, digest: str, manifest: bytes, descriptor: Mapping[str, Any]) -> None:
    """Put a referrer's manifest, whose blobs are there, and enter it into the index unless the registry keeps a list.

    One that does answers with OCI-Subject ("Pushing Manifests with Subject"). Raises what `list_referrers` raises.
    """
    reply = api.put(f"manifests/{descriptor['digest']}", manifest, MANIFEST_TYPE)
    _check(reply, api, str(descriptor["digest"]))
    if reply.headers.get("oci-subject") == digest:
        return
    for _ in range(TRIES):
        index = _fetch_index(api, digest)
        entries = index["manifests"]
        if any(isinstance(entry, dict) and entry.get("digest") == descriptor["digest"] for entry in entries):
            return
        content = json.dumps({**index, "manifests": [*entries, dict(descriptor)]}).encode()
        if len(content) > MOST_BYTES:
            break
        _check(api.put(f"manifests/{name_tag(digest)}", content, INDEX_TYPE), api, name_tag(digest))
    else:
        raise Conflict(
            f"cannot enter the signature into {api.repository}:{name_tag(digest)}: others write it, too",
            resolution="push again",
        )
    raise InvalidInput(f"cannot enter the signature into {api.repository}:{name_tag(digest)}: it is full")


def _fetch_index(api: RegistryApi, digest: str) -> dict[str, Any]:
    """With whatever others have written into it."""
    tag = name_tag(digest)
    reply = api.get(f"manifests/{tag}", INDEX_TYPE)
    if reply.status == 404:
        return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
    _check(reply, api, tag)
    index = _parse(reply.body, f"{api.repository}:{tag}")
    if index.get("mediaType", INDEX_TYPE) != INDEX_TYPE or not isinstance(index.get("manifests"), list):
        raise InvalidInput(
            f"cannot enter the signature into {api.repository}:{tag}: what is there is no index",
            resolution=f"delete the tag {tag}",
        )
    return index


def _check(reply: Reply, api: RegistryApi, name: str) -> None:
    if not 200 <= reply.status < 300:
        raise Unreachable(
            f"cannot use {api.repository}/{name}: the registry answered {reply.status}",
            details=reply.body[:500].decode(errors="replace"),
        )
