# SPDX-License-Identifier: Apache-2.0
"""Volumes of this host as PersistentVolumes, and what of a claim they can be: pure functions.

A PersistentVolume of ours is of the kind `local`: it lies on one node, and the scheduler sends its pods there. Its path
names the daemon's volume; whoever runs the cluster may make one by hand for a volume that is there already.
"""

from __future__ import annotations

import math

from lightkube.models.core_v1 import (
    LocalVolumeSource,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ObjectReference,
    PersistentVolumeSpec,
    VolumeNodeAffinity,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import PersistentVolume, PersistentVolumeClaim
from lightkube.resources.storage_v1 import StorageClass
from lightkube.utils.quantity import parse_quantity

from volant.contract.volume_sizes import SMALLEST_BYTES
from volant.kubernetes.references import Refused

PROVISIONER = "volant.dev/volumes"
CLASS = "volant"
HOSTNAME = "kubernetes.io/hostname"
PATH_PREFIX = "/volant/volumes/"
NAME_PREFIX = "pvc-"
# Keeps the object until its volume is gone from the host.
FINALIZER = "volant.dev/volume"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_ASKED_OF = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_ACCESS_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}


def is_wanted_here(claim: PersistentVolumeClaim, node: str) -> bool:
    """Whether the scheduler has chosen this node for the claim's first pod, and nobody has made its volume."""
    metadata, spec = claim.metadata, claim.spec
    if metadata is None or spec is None or metadata.deletionTimestamp is not None or spec.volumeName:
        return False
    noted = metadata.annotations or {}
    return noted.get(SELECTED_NODE) == node and any(noted.get(key) == PROVISIONER for key in _ASKED_OF)


def name_volume(claim: PersistentVolumeClaim) -> str:
    """Of the claim's UID, so that a second volume for it cannot be."""
    assert claim.metadata is not None and claim.metadata.uid
    return f"{NAME_PREFIX}{claim.metadata.uid}"


def check_claim(claim: PersistentVolumeClaim, wanted: StorageClass) -> int:
    """How many bytes it wants. Raises Refused for what no volume of ours can be."""
    spec = claim.spec
    assert spec is not None
    if unknown := set(spec.accessModes or []) - _ACCESS_MODES:
        raise Refused(
            "ProvisioningFailed", f"a volume has one VM that writes: no {', '.join(sorted(unknown))}"
        )
    if spec.volumeMode not in (None, "Filesystem"):
        raise Refused("ProvisioningFailed", "a volume is a file system, and no block device")
    if spec.dataSource is not None or spec.dataSourceRef is not None or spec.selector is not None:
        raise Refused("ProvisioningFailed", "a volume begins empty: no data source and no selector")
    if wanted.parameters or wanted.mountOptions:
        raise Refused("ProvisioningFailed", "this provisioner knows no parameters and no mount options")
    size = parse_quantity(((spec.resources.requests if spec.resources else None) or {}).get("storage"))
    return max(SMALLEST_BYTES, math.ceil(size or 0))


def make_volume(
    claim: PersistentVolumeClaim, wanted: StorageClass, node: str, size_bytes: int
) -> PersistentVolume:
    """What the cluster is told of a volume that was made for the claim."""
    metadata, spec = claim.metadata, claim.spec
    assert metadata is not None and spec is not None
    name = name_volume(claim)
    here = NodeSelectorRequirement(key=HOSTNAME, operator="In", values=[node])
    return PersistentVolume(
        metadata=ObjectMeta(name=name, annotations={PROVISIONED_BY: PROVISIONER}, finalizers=[FINALIZER]),
        spec=PersistentVolumeSpec(
            accessModes=spec.accessModes, capacity={"storage": str(size_bytes)}, volumeMode="Filesystem",
            claimRef=ObjectReference(
                apiVersion="v1", kind="PersistentVolumeClaim", name=metadata.name, namespace=metadata.namespace,
                uid=metadata.uid,
            ),
            local=LocalVolumeSource(path=f"{PATH_PREFIX}{name}", fsType="ext4"),
            nodeAffinity=VolumeNodeAffinity(
                required=NodeSelector(nodeSelectorTerms=[NodeSelectorTerm(matchExpressions=[here])])
            ),
            persistentVolumeReclaimPolicy=wanted.reclaimPolicy or "Delete", storageClassName=spec.storageClassName,
        ),
    )  # fmt: skip


def find_nodes(volume: PersistentVolume) -> list[str]:
    """The nodes that a volume says it lies on."""
    affinity = volume.spec.nodeAffinity if volume.spec is not None else None
    terms = (
        affinity.required.nodeSelectorTerms if affinity is not None and affinity.required is not None else []
    )
    return [
        node
        for term in terms
        for one in term.matchExpressions or []
        if (one.key, one.operator) == (HOSTNAME, "In")
        for node in one.values or []
    ]


def find_volume(volume: PersistentVolume, node: str) -> str:
    """The daemon's volume that this is, for a pod of the node. Raises Refused for somebody else's."""
    local = volume.spec.local if volume.spec is not None else None
    name = local.path.removeprefix(PATH_PREFIX) if local is not None else ""
    if local is None or name == local.path or find_nodes(volume) != [node]:
        label = volume.metadata.name if volume.metadata is not None else ""
        raise Refused("UnsupportedVolume", f"{label} is no volume of this node's: VMs are given no others")
    return name


def is_made_here(volume: PersistentVolume, node: str) -> bool:
    """Whether this node made it for a claim, and so is the one to take it away."""
    metadata = volume.metadata
    assert metadata is not None and metadata.name
    if (metadata.annotations or {}).get(PROVISIONED_BY) != PROVISIONER:
        return False
    if not metadata.name.startswith(NAME_PREFIX) or find_nodes(volume) != [node]:
        return False
    local = volume.spec.local if volume.spec is not None else None
    return local is not None and local.path == f"{PATH_PREFIX}{metadata.name}"


def is_over(volume: PersistentVolume) -> bool:
    """Whether nobody has a claim to it any more, and its object is to go: with the data, or `is_kept` without."""
    metadata, spec, phase = volume.metadata, volume.spec, volume.status.phase if volume.status else None
    assert metadata is not None and spec is not None
    if metadata.deletionTimestamp is not None:
        return phase != "Bound"
    return phase == "Released" and not is_kept(volume)


def is_kept(volume: PersistentVolume) -> bool:
    assert volume.spec is not None
    return volume.spec.persistentVolumeReclaimPolicy != "Delete"
