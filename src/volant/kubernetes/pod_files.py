# SPDX-License-Identifier: Apache-2.0
"""The files of a pod's volumes that are made of the cluster's objects, and how a guest is given them."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lightkube.models.core_v1 import Container, DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume

from volant.contract.api_types import PlacedFile
from volant.kubernetes.environment import Fields, read_resource
from volant.kubernetes.references import (
    Found,
    Missing,
    Reference,
    Refused,
    find_values,
    list_projections,
    read_token_request,
)


@dataclass(frozen=True, slots=True)
class GuestFile:
    path: str
    content: bytes
    mode: int


def make_files(spec: PodSpec, container: Container, fields: Fields, found: Found) -> Iterator[GuestFile]:
    """The files of volumes that are made of the cluster's objects. Raises Missing."""
    volumes = {volume.name: volume for volume in spec.volumes or []}
    for mount in container.volumeMounts or []:
        volume = volumes.get(mount.name)
        if volume is None:
            continue
        if volume.emptyDir is not None:
            # A folder on the VM's own disk, which is as empty as the VM is new.
            yield GuestFile(posixpath.join(mount.mountPath, ".volant-empty"), b"", 0o644)
            continue
        for path, content, mode in _list_content(volume, container, fields, found):
            yield GuestFile(posixpath.join(mount.mountPath, path), content, mode)


def _list_content(
    volume: Volume, container: Container, fields: Fields, found: Found
) -> Iterator[tuple[str, bytes, int]]:
    if volume.configMap is not None:
        one = volume.configMap
        mode = one.defaultMode or 0o644
        yield from _pick(
            find_values(found, Reference("ConfigMap", one.name or ""), one.optional),
            one.items,
            mode,
            one.optional,
        )
    elif volume.secret is not None:
        secret = volume.secret
        mode = secret.defaultMode or 0o644
        values = find_values(found, Reference("Secret", secret.secretName or ""), secret.optional)
        yield from _pick(values, secret.items, mode, secret.optional)
    elif volume.downwardAPI is not None:
        yield from _list_downward(
            volume.downwardAPI.items, volume.downwardAPI.defaultMode or 0o644, container, fields
        )
    elif volume.projected is not None:
        mode = volume.projected.defaultMode or 0o644
        for source in list_projections(volume):
            if source.configMap is not None:
                given = source.configMap
                values = find_values(found, Reference("ConfigMap", given.name or ""), given.optional)
                yield from _pick(values, given.items, mode, given.optional)
            elif source.secret is not None:
                hidden = source.secret
                values = find_values(found, Reference("Secret", hidden.name or ""), hidden.optional)
                yield from _pick(values, hidden.items, mode, hidden.optional)
            elif source.downwardAPI is not None:
                yield from _list_downward(source.downwardAPI.items, mode, container, fields)
            elif source.serviceAccountToken is not None:
                token = found.tokens.get(read_token_request(source.serviceAccountToken))
                if token is None:
                    raise Missing("the token of the pod's service account")
                yield source.serviceAccountToken.path, token.encode(), 0o600
            else:
                raise Refused("UnsupportedVolume", f"volume {volume.name} projects what VMs are not given")


def _list_downward(
    items: list[DownwardAPIVolumeFile] | None, mode: int, container: Container, fields: Fields
) -> Iterator[tuple[str, bytes, int]]:
    for item in items or []:
        if item.fieldRef is not None:
            text = fields.read(item.fieldRef.fieldPath)
        elif item.resourceFieldRef is not None:
            text = read_resource(container, item.resourceFieldRef.resource, item.resourceFieldRef.divisor)
        else:
            continue
        yield item.path, text.encode(), item.mode or mode


def _pick(
    values: Mapping[str, bytes], items: list[KeyToPath] | None, mode: int, optional: bool | None
) -> Iterator[tuple[str, bytes, int]]:
    if not items:
        yield from ((key, content, mode) for key, content in values.items())
        return
    for item in items:
        if item.key in values:
            yield item.path, values[item.key], item.mode or mode
        elif not optional:
            raise Missing(f"there is no key {item.key}")


def place_files(files: Iterable[GuestFile]) -> list[PlacedFile]:
    """As the daemon takes them; those of a Secret are the workload's alone to read where their mode says so."""
    return [
        {
            "path": file.path,
            "content_base64": base64.b64encode(file.content).decode(),
            "secret": None,
            "mode": file.mode,
            "uid": 0,
            "gid": 0,
        }
        for file in files
    ]
