# SPDX-License-Identifier: Apache-2.0
"""The node agent: registers the host, renews its Lease, and gives every pod of the node a worker of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from lightkube.resources.core_v1 import Node, Pod

from volant.client import AsyncClient
from volant.contract.api_types import Vm
from volant.errors import VolantError
from volant.kubernetes.addresses import PodAddresses
from volant.kubernetes.boots import Boots
from volant.kubernetes.cluster import Cluster
from volant.kubernetes.images import Images
from volant.kubernetes.node import LEASE_SECONDS, HostFacts, register, renew_lease, tell_status
from volant.kubernetes.pods import NODE_LABEL, UID_LABEL
from volant.kubernetes.provisioner import Provisioner
from volant.kubernetes.watched_objects import WatchedObjects
from volant.kubernetes.worker import Host, PodWorker

log = logging.getLogger(__name__)
HEARTBEAT_SECONDS = LEASE_SECONDS / 4
STATUS_SECONDS = 300.0
RETRY_SECONDS = 1.0


class NodeAgent:
    """Everything of one node; `run` ends only when it is cancelled. VMs run on without it."""

    def __init__(self, cluster: Cluster, client: AsyncClient, facts: HostFacts) -> None:
        self._cluster = cluster
        self._client = client
        self._facts = facts
        self._version = ""
        addresses = PodAddresses(facts.address)
        self.host = Host(
            facts.name, facts.address, cluster, client, Images(client.client), addresses, Boots(client),
            WatchedObjects(cluster),
        )  # fmt: skip
        self.workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # The cluster may have made pods of this node elsewhere, and those that asked for it are stopped.
        self._is_fenced = False

    async def run(self) -> None:
        self._version = (await self._client.get_system_info())["version"]
        node = await register(self._cluster, self._facts, self._version)
        self._take_range(node)
        for vm in await self._list_own_vms():
            self.host.addresses.adopt(vm)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_alive(node))
            group.create_task(self._follow_pods())
            group.create_task(self._follow_vms())
            group.create_task(Provisioner(self._cluster, self._client, self._facts.name).run())

    # -- the node -----------------------------------------------------------------------------------------

    async def _keep_alive(self, node: Node) -> None:
        """The Lease every ten seconds, the Node's status every five minutes."""
        told, loop = time.monotonic(), asyncio.get_running_loop()
        # It does not wait for a renewal that gets no answer.
        fencing = loop.call_later(LEASE_SECONDS, self._fence)
        while True:
            try:
                await renew_lease(self._cluster, node)
                fencing.cancel()
                fencing = loop.call_later(LEASE_SECONDS, self._fence)
                if self._is_fenced:
                    await self._end_fence()
                if time.monotonic() - told > STATUS_SECONDS:
                    await tell_status(self._cluster, self._facts, self._version)
                    told = time.monotonic()
                if not self.host.addresses.has_range:
                    assert node.metadata is not None and node.metadata.name
                    self._take_range(await self._cluster.client.get(Node, node.metadata.name))
            except Exception as error:
                log.warning("cannot renew the node's Lease: %s", error)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _fence(self) -> None:
        self._is_fenced = True
        for worker in self.workers.values():
            self._spawn(worker.fence())

    async def _end_fence(self) -> None:
        """Pods that were made elsewhere meanwhile are gone from the list, or on their way out: they do not start."""
        fields: dict[str, Any] = {"spec.nodeName": self._facts.name}
        self._compare([pod async for pod in self._cluster.client.list(Pod, namespace="*", fields=fields)])
        for worker in self.workers.values():
            worker.let_go_on()
        self._is_fenced = False

    def _take_range(self, node: Node) -> None:
        self.host.addresses.use_range(node.spec.podCIDR if node.spec is not None else None)

    # -- pods ---------------------------------------------------------------------------------------------

    async def _follow_pods(self) -> None:
        async for kind, pod in self._cluster.watch_pods(self._facts.name, self._compare):
            assert pod.metadata is not None and pod.metadata.uid
            worker = self.workers.get(pod.metadata.uid)
            if kind == "DELETED":
                if worker is not None:
                    worker.orphan()
            elif worker is None:
                self._begin(pod)
            else:
                worker.wake(pod)

    def _compare(self, pods: list[Pod]) -> None:
        """All pods of the node, at first and after a gap: whoever is not among them is gone."""
        listed = {pod.metadata.uid: pod for pod in pods if pod.metadata is not None and pod.metadata.uid}
        for uid, worker in self.workers.items():
            if uid not in listed:
                worker.orphan()
        for uid, pod in listed.items():
            if uid in self.workers:
                self.workers[uid].wake(pod)
            else:
                self._begin(pod)
        self._spawn(self._remove_strays(set(listed)))

    def _begin(self, pod: Pod) -> None:
        assert pod.metadata is not None and pod.metadata.uid
        uid, worker = pod.metadata.uid, PodWorker(self.host, pod)
        self.workers[uid] = worker

        async def work() -> None:
            await worker.run()
            self.workers.pop(uid, None)

        self._spawn(work())

    async def _remove_strays(self, uids: set[str]) -> None:
        """VMs of pods that ended while nobody was here."""
        for vm in await self._list_own_vms():
            if vm["labels"].get(UID_LABEL) not in uids | set(self.workers):
                log.info("VM %s: its pod is gone", vm["name"])
                try:
                    await self._client.delete_vm(vm["name"], force=True, volumes=True)
                    self.host.addresses.release(self.host.addresses.find(vm))
                except VolantError as error:
                    log.warning("cannot delete VM %s: %s", vm["name"], error)

    async def _list_own_vms(self) -> list[Vm]:
        return await self._client.list_vms(label=[f"{NODE_LABEL}={self._facts.name}"])

    def list_workers(self) -> list[PodWorker]:
        return list(self.workers.values())

    def find_worker(self, namespace: str, name: str) -> PodWorker | None:
        for worker in self.workers.values():
            metadata = worker.pod.metadata
            if metadata is not None and (metadata.namespace, metadata.name) == (namespace, name):
                return worker
        return None

    # -- VMs ----------------------------------------------------------------------------------------------

    async def _follow_vms(self) -> None:
        """The daemon's events wake the pods' workers; after a cut all of them look."""
        while True:
            try:
                async for event in self._client.events(follow=True):
                    for worker in self.workers.values():
                        if worker.name == event["vm"]:
                            worker.wake()
                        elif worker.is_held and event["data"].get("status") in ("stopped", "failed"):
                            worker.let_in()
            except (VolantError, OSError) as error:
                log.warning("cannot follow the daemon's events: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
            for worker in self.workers.values():
                worker.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
