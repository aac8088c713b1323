# SPDX-License-Identifier: Apache-2.0
"""Claims, classes and volumes of a cluster in memory."""

from __future__ import annotations

from typing import Any, cast

from lightkube.resources.core_v1 import PersistentVolume, PersistentVolumeClaim
from lightkube.resources.storage_v1 import StorageClass

from volant.kubernetes.persistent_volumes import PROVISIONER, SELECTED_NODE, make_volume

GIB = 1 << 30
CHOSEN = {"volume.kubernetes.io/storage-provisioner": PROVISIONER, SELECTED_NODE: "host-1"}


def make_claim(noted: dict[str, str] = CHOSEN, **spec: Any) -> PersistentVolumeClaim:
    document = {
        "metadata": {"name": "data", "namespace": "shop", "uid": "c0ffee", "annotations": noted},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "volant",
            "resources": {"requests": {"storage": "2Gi"}}, **spec,
        },
    }  # fmt: skip
    return cast("PersistentVolumeClaim", PersistentVolumeClaim.from_dict(document))


def make_class(**changes: Any) -> StorageClass:
    document = {
        "metadata": {"name": "volant"},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        **changes,
    }
    return cast("StorageClass", StorageClass.from_dict(document))


def make_bound(phase: str = "Bound", *, policy: str = "Delete", deleted: bool = False) -> PersistentVolume:
    document = make_volume(make_claim(), make_class(reclaimPolicy=policy), "host-1", GIB).to_dict()
    document["status"] = {"phase": phase}
    if deleted:
        document["metadata"]["deletionTimestamp"] = "2026-11-27T10:00:00Z"
    return cast("PersistentVolume", PersistentVolume.from_dict(document))
