# SPDX-License-Identifier: Apache-2.0
"""What a pod refers to, and what was found of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from lightkube.models.core_v1 import (
    Container,
    PodSpec,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from lightkube.resources.core_v1 import Pod, Service

Kind = Literal["ConfigMap", "Secret"]


class Refused(Exception):
    """A pod that no VM can be."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Missing(Exception):
    """Something that a pod refers to is not there yet: its container waits for it, for `reason`."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


class Reference(NamedTuple):
    """An object of the pod's namespace that it takes values of."""

    kind: Kind
    name: str


class TokenRequest(NamedTuple):
    """A token of the pod's service account, for a projected volume."""

    audience: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a pod's references: the bytes of each key. What is not there is left out.

    `volumes`: of each claim, the daemon's volume that it is bound to. `services`: those that the pod is told of.
    """

    objects: Mapping[Reference, Mapping[str, bytes]] = field(default_factory=dict)
    tokens: Mapping[TokenRequest, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    services: Sequence[Service] = ()


def get_spec(pod: Pod) -> PodSpec:
    assert pod.spec is not None
    return pod.spec


def get_container(pod: Pod) -> Container:
    return get_spec(pod).containers[0]


def list_references(pod: Pod) -> set[Reference]:
    """ConfigMaps and Secrets of which values are taken."""
    container = get_container(pod)
    found: set[Reference] = set()
    for variable in container.env or []:
        source = variable.valueFrom
        if source is not None and source.configMapKeyRef is not None:
            found.add(Reference("ConfigMap", source.configMapKeyRef.name or ""))
        if source is not None and source.secretKeyRef is not None:
            found.add(Reference("Secret", source.secretKeyRef.name or ""))
    for whole in container.envFrom or []:
        if whole.configMapRef is not None:
            found.add(Reference("ConfigMap", whole.configMapRef.name or ""))
        if whole.secretRef is not None:
            found.add(Reference("Secret", whole.secretRef.name or ""))
    return found | list_volume_references(pod)


def list_volume_references(pod: Pod) -> set[Reference]:
    """Those of which files are made."""
    found: set[Reference] = set()
    for volume in list_mounted(get_spec(pod), get_container(pod)):
        if volume.configMap is not None:
            found.add(Reference("ConfigMap", volume.configMap.name or ""))
        if volume.secret is not None:
            found.add(Reference("Secret", volume.secret.secretName or ""))
        for part in list_projections(volume):
            if part.configMap is not None:
                found.add(Reference("ConfigMap", part.configMap.name or ""))
            if part.secret is not None:
                found.add(Reference("Secret", part.secret.name or ""))
    return found


def list_tokens(pod: Pod) -> set[TokenRequest]:
    found: set[TokenRequest] = set()
    for volume in list_mounted(get_spec(pod), get_container(pod)):
        for part in list_projections(volume):
            if part.serviceAccountToken is not None:
                found.add(read_token_request(part.serviceAccountToken))
    return found


def find_claim(pod: Pod, volume: Volume) -> str:
    """The PersistentVolumeClaim that a pod's volume is; empty: it is of another kind."""
    if volume.persistentVolumeClaim is not None:
        return volume.persistentVolumeClaim.claimName
    if volume.ephemeral is not None:
        # Made for this pod by the cluster, and called so (KEP-1698).
        return f"{pod.metadata.name if pod.metadata is not None else ''}-{volume.name}"
    return ""


def list_claims(pod: Pod) -> dict[str, bool]:
    """Names of the claims that are mounted, and whether each is to be this pod's own."""
    return {
        claim: volume.ephemeral is not None
        for volume in list_mounted(get_spec(pod), get_container(pod))
        if (claim := find_claim(pod, volume))
    }


def list_mounted(spec: PodSpec, container: Container) -> list[Volume]:
    wanted = {mount.name for mount in container.volumeMounts or []}
    return [volume for volume in spec.volumes or [] if volume.name in wanted]


def list_projections(volume: Volume) -> list[VolumeProjection]:
    return (volume.projected.sources if volume.projected is not None else None) or []


def read_token_request(source: ServiceAccountTokenProjection) -> TokenRequest:
    return TokenRequest(source.audience or "", source.expirationSeconds or 3600)


def find_values(found: Found, reference: Reference, optional: bool | None) -> Mapping[str, bytes]:
    """The values of an object; none where it may be missing. Raises Missing."""
    values = found.objects.get(reference)
    if values is None:
        if optional:
            return {}
        raise Missing(f"{reference.kind} {reference.name} is not there")
    return values
