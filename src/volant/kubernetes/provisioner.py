# SPDX-License-Identifier: Apache-2.0
"""Makes the volumes that claims of this node's pods wait for, and deletes those whose claims are gone.

The daemon's volume is made first, then its PersistentVolume: an agent that was killed in between finds both again by
the claim's UID. Nothing is deleted since something is not there: only where a PersistentVolume of ours says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import PersistentVolume, PersistentVolumeClaim
from lightkube.resources.storage_v1 import StorageClass
from lightkube.types import PatchType

from volant.client import AsyncClient
from volant.errors import Conflict, NotFound
from volant.kubernetes.cluster import Cluster
from volant.kubernetes.events import tell_event
from volant.kubernetes.persistent_volumes import (
    FINALIZER,
    check_claim,
    is_kept,
    is_made_here,
    is_over,
    is_wanted_here,
    make_volume,
    name_volume,
)
from volant.kubernetes.references import Refused

log = logging.getLogger(__name__)
FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 60.0


class Provisioner:
    """`run` ends only when it is cancelled."""

    def __init__(self, cluster: Cluster, client: AsyncClient, node: str) -> None:
        self._cluster = cluster
        self._client = client
        self._node = node
        self._acting: dict[str, asyncio.Task[None]] = {}
        # What changed while something was done about it.
        self._changed: set[str] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_claims())
            group.create_task(self._follow_volumes())

    async def _follow_claims(self) -> None:
        async for kind, claim in self._cluster.watch(PersistentVolumeClaim, self._see_claims, namespace="*"):
            if kind != "DELETED":
                self._see_claims([claim])

    async def _follow_volumes(self) -> None:
        async for kind, volume in self._cluster.watch(PersistentVolume, self._see_volumes):
            if kind != "DELETED":
                self._see_volumes([volume])

    def _see_claims(self, claims: list[PersistentVolumeClaim]) -> None:
        for claim in claims:
            if is_wanted_here(claim, self._node):
                self._begin(name_volume(claim), partial(self.provide, claim))

    def _see_volumes(self, volumes: list[PersistentVolume]) -> None:
        for volume in volumes:
            if is_made_here(volume, self._node) and is_over(volume):
                assert volume.metadata is not None and volume.metadata.name
                self._begin(f"end of {volume.metadata.name}", partial(self.take_away, volume.metadata.name))

    def _begin(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        if name in self._acting:
            self._changed.add(name)
        else:
            self._acting[name] = asyncio.get_running_loop().create_task(self._try(name, act))

    async def _try(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        """Until it is done; what stands in the way may go."""
        pause_seconds = FIRST_RETRY_SECONDS
        try:
            while True:
                self._changed.discard(name)
                try:
                    await act()
                except Exception as error:
                    log.warning("%s: %s; trying again", name, error)
                else:
                    if name not in self._changed:
                        return
                    continue
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, MOST_RETRY_SECONDS)
        finally:
            del self._acting[name]

    async def provide(self, claim: PersistentVolumeClaim) -> None:
        """A volume for the claim, unless it is gone or has one by now."""
        assert claim.metadata is not None and claim.metadata.name and claim.spec is not None
        name = name_volume(claim)
        try:
            now = await self._cluster.client.get(
                PersistentVolumeClaim, claim.metadata.name, namespace=claim.metadata.namespace
            )
        except ApiError as error:
            if error.status.code == 404:
                return
            raise
        if name_volume(now) != name or not is_wanted_here(now, self._node):
            return
        wanted = await self._cluster.client.get(StorageClass, claim.spec.storageClassName or "")
        try:
            size_bytes = check_claim(now, wanted)
            size_bytes = await self._make_disk(name, size_bytes)
        except Refused as refused:
            await self._tell(now, "Warning", refused.reason, str(refused))
            return
        except Exception as error:
            await self._tell(now, "Warning", "ProvisioningFailed", str(error))
            raise
        try:
            await self._cluster.client.create(make_volume(now, wanted, self._node, size_bytes))
        except ApiError as error:
            if error.status.code != 409:
                await self._tell(now, "Warning", "ProvisioningFailed", str(error))
                raise
        else:
            await self._tell(now, "Normal", "ProvisioningSucceeded", f"volume {name} on node {self._node}")

    async def _make_disk(self, name: str, size_bytes: int) -> int:
        """The volume's size: that of the agent before this one, if there is one."""
        try:
            return (await self._client.create_volume(name, str(size_bytes)))["size_bytes"]
        except Conflict:
            for volume in await self._client.list_volumes():
                if volume["name"] == name:
                    return volume["size_bytes"]
            raise

    async def take_away(self, name: str) -> None:
        """The data first, unless they are to stay; then the object. Asked anew: somebody may have it kept by now."""
        client = self._cluster.client
        try:
            volume = await client.get(PersistentVolume, name)
            if not is_made_here(volume, self._node) or not is_over(volume):
                return
            if not is_kept(volume):
                with suppress(NotFound):
                    await self._client.delete_volume(name)
                log.info("volume %s: its claim is gone, and so is it", name)
            await client.delete(PersistentVolume, name)
            volume = await client.get(PersistentVolume, name)
            assert volume.metadata is not None
            left = [one for one in volume.metadata.finalizers or [] if one != FINALIZER]
            changed = {"finalizers": left, "resourceVersion": volume.metadata.resourceVersion}
            # The list itself, and not what is more or less in it.
            await client.patch(PersistentVolume, name, {"metadata": changed}, patch_type=PatchType.MERGE)
        except ApiError as error:
            if error.status.code != 404:
                raise

    async def _tell(self, claim: PersistentVolumeClaim, kind: str, reason: str, message: str) -> None:
        await tell_event(self._cluster, claim, self._node, kind, reason, message)
