# SPDX-License-Identifier: Apache-2.0
"""ConfigMaps and Secrets that volumes of this node's pods are made of: each is watched once, while a pod here has it.

A node may watch no others (Node authorizer), and none but one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from lightkube.resources.core_v1 import ConfigMap, Pod, Secret

from volant.kubernetes.cluster import Cluster, read_values
from volant.kubernetes.references import Reference, list_volume_references

Wake = Callable[[], None]
KINDS: dict[str, Any] = {"ConfigMap": ConfigMap, "Secret": Secret}


class Place(NamedTuple):
    namespace: str
    reference: Reference


def list_places(pod: Pod) -> set[Place]:
    """Where the objects are that files of the pod's volumes are made of."""
    assert pod.metadata is not None and pod.metadata.namespace
    return {Place(pod.metadata.namespace, reference) for reference in list_volume_references(pod)}


class WatchedObjects:
    """Followers are woken by every change, and then find here what there is."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._values: dict[Place, Mapping[str, bytes]] = {}
        self._followers: dict[Place, list[Wake]] = {}
        self._tasks: dict[Place, asyncio.Task[None]] = {}

    def follow(self, wake: Wake, places: Iterable[Place]) -> None:
        for place in places:
            followers = self._followers.setdefault(place, [])
            if wake not in followers:
                followers.append(wake)
            if place not in self._tasks:
                self._tasks[place] = asyncio.get_running_loop().create_task(self._watch(place))

    def leave(self, wake: Wake) -> None:
        for place, followers in list(self._followers.items()):
            if wake in followers:
                followers.remove(wake)
            if not followers:
                self._tasks.pop(place).cancel()
                del self._followers[place]
                self._values.pop(place, None)

    def find(self, places: Iterable[Place]) -> dict[Reference, Mapping[str, bytes]]:
        """The values of those that are there, as far as they have been heard of."""
        return {place.reference: self._values[place] for place in places if place in self._values}

    async def _watch(self, place: Place) -> None:
        def compare(listed: list[Any]) -> None:
            self._take(place, listed[0] if listed else None)

        changes = self._cluster.watch(
            KINDS[place.reference.kind], compare, namespace=place.namespace,
            fields={"metadata.name": place.reference.name},
        )  # fmt: skip
        async for kind, changed in changes:
            self._take(place, None if kind == "DELETED" else changed)

    def _take(self, place: Place, told: Any) -> None:
        values = read_values(told) if told is not None else None
        if values == self._values.get(place):
            return
        if values is None:
            del self._values[place]
        else:
            self._values[place] = values
        for wake in self._followers.get(place, []):
            wake()
