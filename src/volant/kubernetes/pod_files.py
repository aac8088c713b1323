# SPDX-License-Identifier: Apache-2.0
"""The folders of a pod's volumes that are not of the host: empty ones, and those with files of the cluster's objects.

A folder of files is in RAM and has nothing but these, whatever the image has in its place; as the kubelet makes it.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from lightkube.models.core_v1 import (
    Container,
    DownwardAPIVolumeFile,
    KeyToPath,
    PodSpec,
    ProjectedVolumeSource,
    Volume,
    VolumeProjection,
)

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

_SETGID = 0o2000
# What the group of the pod's volumes (fsGroup) is let at least: to read files, and to go through folders.
_GROUP_READS, _GROUP_ENTERS = 0o440, 0o110


@dataclass(frozen=True, slots=True)
class GuestFile:
    path: str
    content: bytes
    mode: int
    kind: Literal["file", "folder", "memory"] = "file"
    uid: int = 0
    gid: int = 0


def make_files(spec: PodSpec, container: Container, fields: Fields, found: Found) -> list[GuestFile]:
    """Folders in the order in which they are mounted, then the files in them. Raises Missing."""
    return _make_files_of(spec.volumes or [], spec, container, fields, found)


def _make_files_of(
    given: Sequence[Volume], spec: PodSpec, container: Container, fields: Fields, found: Found
) -> list[GuestFile]:
    volumes = {volume.name: volume for volume in given}
    security = spec.securityContext
    group = security.fsGroup if security is not None else None
    folders: list[GuestFile] = []
    files: list[GuestFile] = []
    for mount in sorted(container.volumeMounts or [], key=lambda mount: mount.mountPath):
        volume = volumes.get(mount.name)
        if volume is None or volume.persistentVolumeClaim is not None or volume.ephemeral is not None:
            continue
        if volume.emptyDir is not None:
            kind: Literal["folder", "memory"] = "memory" if volume.emptyDir.medium == "Memory" else "folder"
            folders.append(_own(GuestFile(mount.mountPath, b"", 0o777, kind), group))
            continue
        folders.append(_own(GuestFile(mount.mountPath, b"", 0o755, "memory"), group))
        for file in _list_content(volume, spec, container, fields, found):
            files.append(_own(replace(file, path=posixpath.join(mount.mountPath, file.path)), group))
    return [*folders, *files]


def make_changing_files(
    spec: PodSpec, container: Container, fields: Fields, found: Found
) -> dict[str, GuestFile]:
    """By their paths, the files that may change while the pod runs: all but tokens, of the volumes that can be made."""
    made: dict[str, GuestFile] = {}
    for volume in spec.volumes or []:
        with suppress(Missing):
            files = _make_files_of([_leave_tokens(volume)], spec, container, fields, found)
            made |= {file.path: file for file in files if file.kind == "file"}
    return made


def _leave_tokens(volume: Volume) -> Volume:
    if volume.projected is None:
        return volume
    sources = [one for one in list_projections(volume) if one.serviceAccountToken is None]
    return Volume(
        volume.name,
        projected=ProjectedVolumeSource(defaultMode=volume.projected.defaultMode, sources=sources),
    )


def _own(file: GuestFile, group: int | None) -> GuestFile:
    """As the kubelet gives a volume to the group of the pod."""
    if group is None:
        return file
    more = _GROUP_READS if file.kind == "file" else _GROUP_READS | _GROUP_ENTERS | _SETGID
    return replace(file, gid=group, mode=file.mode | more)


def _list_content(
    volume: Volume, spec: PodSpec, container: Container, fields: Fields, found: Found
) -> Iterator[GuestFile]:
    """The files of a volume, by their paths within it."""
    if volume.configMap is not None:
        one = volume.configMap
        values = find_values(found, Reference("ConfigMap", one.name or ""), one.optional)
        yield from _pick(values, one.items, one.defaultMode or 0o644, one.optional)
    elif volume.secret is not None:
        secret = volume.secret
        values = find_values(found, Reference("Secret", secret.secretName or ""), secret.optional)
        yield from _pick(values, secret.items, secret.defaultMode or 0o644, secret.optional)
    elif volume.downwardAPI is not None:
        mode = volume.downwardAPI.defaultMode or 0o644
        yield from _list_downward(volume.downwardAPI.items, mode, container, fields)
    elif volume.projected is not None:
        mode = volume.projected.defaultMode or 0o644
        for source in list_projections(volume):
            if source.serviceAccountToken is not None:
                yield _make_token(source, mode, spec, container, found)
            else:
                yield from _list_projected(volume.name, source, mode, container, fields, found)


def _list_projected(
    volume: str, source: VolumeProjection, mode: int, container: Container, fields: Fields, found: Found
) -> Iterator[GuestFile]:
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
    else:
        raise Refused("UnsupportedVolume", f"volume {volume} projects what VMs are not given")


def _make_token(
    source: VolumeProjection, mode: int, spec: PodSpec, container: Container, found: Found
) -> GuestFile:
    """Where the pod says who it runs as, the token is that user's alone, or the group's of its volumes."""
    asked = source.serviceAccountToken
    assert asked is not None
    token = found.tokens.get(read_token_request(asked))
    if token is None:
        raise Missing("the token of the pod's service account")
    users = [one.runAsUser for one in (container.securityContext, spec.securityContext) if one is not None]
    user = next((one for one in users if one is not None), None)
    is_group = spec.securityContext is not None and spec.securityContext.fsGroup is not None
    return GuestFile(
        asked.path, token.encode(), 0o600 if user is not None or is_group else mode, uid=user or 0
    )


def _list_downward(
    items: list[DownwardAPIVolumeFile] | None, mode: int, container: Container, fields: Fields
) -> Iterator[GuestFile]:
    for item in items or []:
        if item.fieldRef is not None:
            text = fields.read(item.fieldRef.fieldPath)
        elif item.resourceFieldRef is not None:
            text = read_resource(container, item.resourceFieldRef.resource, item.resourceFieldRef.divisor)
        else:
            continue
        yield GuestFile(item.path, text.encode(), item.mode or mode)


def _pick(
    values: Mapping[str, bytes], items: list[KeyToPath] | None, mode: int, optional: bool | None
) -> Iterator[GuestFile]:
    if not items:
        yield from (GuestFile(key, content, mode) for key, content in values.items())
        return
    for item in items:
        if item.key in values:
            yield GuestFile(item.path, values[item.key], item.mode or mode)
        elif not optional:
            raise Missing(f"there is no key {item.key}")


def place_files(files: Iterable[GuestFile]) -> list[PlacedFile]:
    """As the daemon takes them; those of a Secret are the workload's alone to read where their mode says so."""
    return [
        {
            "path": file.path,
            "kind": file.kind,
            "content_base64": base64.b64encode(file.content).decode(),
            "secret": None,
            "mode": file.mode,
            "uid": file.uid,
            "gid": file.gid,
        }
        for file in files
    ]
