# SPDX-License-Identifier: Apache-2.0
"""Events on pods and claims, as `kubectl describe` shows them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from lightkube.models.core_v1 import EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event, PersistentVolumeClaim, Pod

from volant.kubernetes.cluster import Cluster, ClusterFailed

MOST_MESSAGE = 1024


async def tell_event(
    cluster: Cluster, about: Pod | PersistentVolumeClaim, node: str, kind: str, reason: str, message: str
) -> None:
    """Best effort: an event that is lost changes nothing."""
    metadata = about.metadata
    assert metadata is not None
    now = datetime.now(UTC)
    event = Event(
        metadata=ObjectMeta(generateName=f"{metadata.name}.", namespace=metadata.namespace),
        involvedObject=ObjectReference(
            apiVersion="v1", kind=type(about).__name__, name=metadata.name, namespace=metadata.namespace,
            uid=metadata.uid,
        ),
        type=kind, reason=reason, message=message[:MOST_MESSAGE], firstTimestamp=now, lastTimestamp=now, count=1,
        source=EventSource(component="volant", host=node),
    )  # fmt: skip
    with suppress(*ClusterFailed):
        await cluster.client.create(event)
