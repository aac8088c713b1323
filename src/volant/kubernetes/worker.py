# SPDX-License-Identifier: Apache-2.0
"""One pod and its VM. `PodWorker.bring_about` reads as what becomes of a pod: refused, made, told of, ended.

Everything that it has to remember is in the cluster and at the daemon: killed at any point, the next agent goes on. The
VM's name is made of the pod's UID, so a second one cannot be.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from lightkube.models.core_v1 import PodStatus, Probe
from lightkube.resources.core_v1 import Pod

from volant.client import AsyncClient
from volant.contract.api_types import Vm
from volant.errors import Conflict, NotFound, VolantError
from volant.kubernetes.addresses import PodAddresses
from volant.kubernetes.boots import Boots
from volant.kubernetes.cluster import Cluster, ClusterFailed
from volant.kubernetes.environment import Fields
from volant.kubernetes.events import tell_event
from volant.kubernetes.images import Images
from volant.kubernetes.last_words import LastWords
from volant.kubernetes.pod_files import GuestFile, make_changing_files
from volant.kubernetes.pods import KILLED_LABEL, bound_grace, check_pod, make_request, name_vm
from volant.kubernetes.probes import attempt
from volant.kubernetes.probing import Failure, Kind, Prober
from volant.kubernetes.references import Found, Missing, Refused, get_container, get_spec
from volant.kubernetes.runs import find_remaining_seconds
from volant.kubernetes.status import (
    DEADLINE_EXCEEDED,
    make_overdue_status,
    make_refused_status,
    make_status,
    make_waiting_status,
)
from volant.kubernetes.watched_objects import WatchedObjects, list_places

log = logging.getLogger(__name__)
SELF_FENCE = "volant.dev/self-fence"
FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS = 2.0, 300.0
DEFAULT_GRACE_SECONDS = 30


class ImageFailed(Exception):
    """The container's image cannot be had now."""


@dataclass(frozen=True, slots=True)
class Host:
    """What all pods of a node share."""

    node: str
    address: str
    cluster: Cluster
    client: AsyncClient
    images: Images
    addresses: PodAddresses
    boots: Boots
    objects: WatchedObjects


class PodWorker:
    """Brings one pod about, whenever it or its VM has changed, and until both are gone."""

    def __init__(self, host: Host, pod: Pod) -> None:
        self._host = host
        self.pod = pod
        self.name = name_vm(pod)
        self._changed = asyncio.Event()
        self._changed.set()
        self._told: dict[str, Any] = {}
        self._pause_seconds = FIRST_RETRY_SECONDS
        # The pod is gone from the cluster, whatever it was.
        self.is_orphan = False
        # Its VM was stopped since the cluster may run the pod elsewhere: it is left so until the cluster is heard of.
        self._is_fenced = False
        # It waits for what another VM has.
        self.is_held = False
        # By the loop's clock: whatever wakes it before, such as what it told of itself, is no reason to try again.
        self._make_at = 0.0
        # Why its run was ended, until the next one is told of.
        self._killed = ""
        self._last_words = LastWords(host.client, get_container(pod))
        # What this agent knows to be in the guest's files.
        self._files: dict[str, GuestFile] = {}
        # Looks at it again when it may not be active any longer.
        self._alarm: asyncio.TimerHandle | None = None
        self._prober = Prober(get_container(pod), self._probe, self.wake, self._tell_problem)

    def wake(self, pod: Pod | None = None) -> None:
        if pod is not None:
            self.pod = pod
        self._changed.set()

    def let_in(self) -> None:
        """Another VM has ended, and may have had what this one waits for."""
        self._make_at = 0.0
        self._changed.set()

    def orphan(self) -> None:
        self.is_orphan = True
        self._changed.set()

    async def run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                is_over = await self.bring_about()
                if not self._is_early():
                    self._pause_seconds, self.is_held = FIRST_RETRY_SECONDS, False
            except (Missing, ImageFailed, VolantError, OSError) as error:
                await self._wait_for(error)
                is_over = False
            except ClusterFailed as error:
                log.warning("pod %s: %s; trying again", self.name, error)
                self._retry_later()
                is_over = False
            except Exception:
                log.exception("pod %s: trying again", self.name)
                self._retry_later()
                is_over = False
            if is_over:
                return

    async def bring_about(self) -> bool:
        """One step towards what the pod says. True where nothing is left to do, for ever."""
        pod = self.pod
        assert pod.metadata is not None
        if self.is_orphan or pod.metadata.deletionTimestamp is not None:
            self._prober.stop()
            await self._end(pod)
            return True
        if pod.status is not None and pod.status.phase in ("Succeeded", "Failed"):
            self._prober.stop()
            self._host.objects.leave(self.wake)
            return False
        if self._is_fenced:
            return False
        if self._is_overdue():
            await self._stop_overdue(pod)
            return False
        try:
            check_pod(pod)
            vm = await self._find_vm()
            if vm is None:
                if self._is_early():
                    return False
                vm = await self._make_vm(pod)
        except Refused as refused:
            await self._tell(
                make_refused_status(pod, refused.reason, str(refused), host_ip=self._host.address)
            )
            return False
        if vm["status"] == "stopped" and _is_for_ever(pod):
            # Somebody stopped it by hand, or it ended well: of a pod that is to run for ever neither is the end.
            vm = await self._host.client.start_vm(self.name)
        if self._prober.failure is not None:
            vm = await self._restart(pod, self._prober.failure)
        status = self._observe(pod, vm)
        await self._last_words.add(status, vm)
        await self._tell(status)
        await self._refresh_files(pod, vm)
        return False

    async def _refresh_files(self, pod: Pod, vm: Vm) -> None:
        """Files of the guest follow ConfigMaps, Secrets, and the pod's labels and annotations."""
        if vm["status"] != "running" or not vm["agent"]["connected"]:
            return
        places = list_places(pod)
        self._host.objects.follow(self.wake, places)
        found = Found(self._host.objects.find(places))
        files = self._make_changing_files(pod, self._host.addresses.find(vm), found)
        for path, file in files.items():
            if self._files.get(path) != file:
                await self._host.client.write_file(self.name, path, file.content, mode=file.mode)
                self._files[path] = file

    def _make_changing_files(self, pod: Pod, address: str, found: Found) -> dict[str, GuestFile]:
        fields = Fields(pod, self._host.node, address, self._host.address)
        return make_changing_files(get_spec(pod), get_container(pod), fields, found)

    def _is_overdue(self) -> bool:
        """Whether the pod has been active for as long as it may be; if not yet, it is looked at again when it has."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        remaining = find_remaining_seconds(self.pod)
        if remaining is not None and remaining > 0:
            self._alarm = asyncio.get_running_loop().call_later(remaining, self._changed.set)
        return remaining is not None and remaining <= 0

    async def _stop_overdue(self, pod: Pod) -> None:
        self._prober.stop()
        vm = await self._find_vm()
        if vm is not None and vm["status"] not in ("stopped", "failed", "created"):
            vm = await self._host.client.stop_vm(self.name, timeout_seconds=self._find_grace(pod))
        address = self._host.addresses.find(vm) if vm is not None else ""
        await self._tell(make_overdue_status(pod, vm, host_ip=self._host.address, pod_ip=address))
        await self._tell_event(
            "Normal", DEADLINE_EXCEEDED, "Pod was active on the node longer than specified"
        )

    def _observe(self, pod: Pod, vm: Vm) -> PodStatus:
        """What the VM and its probes say now; the probes go with the run of the workload."""

        def make() -> PodStatus:
            return make_status(
                pod, vm, host_ip=self._host.address, pod_ip=self._host.addresses.find(vm),
                is_started=self._prober.is_started, is_ready=self._prober.is_ready, killed=self._killed,
            )  # fmt: skip

        (container,) = make().containerStatuses or []
        is_running = container.state is not None and container.state.running is not None
        if is_running and container.containerID:
            self._prober.follow(container.containerID)
        else:
            self._prober.stop()
        # Probes that begin anew say other than before.
        status = make()
        if is_running:
            self._killed = ""
        return status

    async def _restart(self, pod: Pod, failure: Failure) -> Vm:
        """A probe says that the workload is to end: it comes again, unless the pod runs once."""
        self._prober.stop()
        asked = failure.grace_seconds
        grace = self._find_grace(pod) if asked is None else bound_grace(asked)
        self._killed = f"failed {failure.kind} probe: {failure.reason}"
        is_last = get_spec(pod).restartPolicy == "Never"
        what = "will be stopped" if is_last else "will be restarted"
        await self._tell_event(
            "Normal", "Killing", f"Container {get_container(pod).name} failed {failure.kind} probe, {what}"
        )
        if is_last:
            await self._host.client.update_vm(self.name, {"labels": {KILLED_LABEL: failure.kind}})
            return await self._host.client.stop_vm(self.name, timeout_seconds=grace)
        return await self._host.client.restart_vm(self.name, timeout_seconds=grace)

    async def _probe(self, probe: Probe) -> str:
        return await attempt(self._host.client, self.name, get_container(self.pod), probe)

    async def _tell_problem(self, kind: Kind, reason: str) -> None:
        await self._tell_event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {reason}")

    async def _tell_event(self, kind: str, reason: str, message: str) -> None:
        await tell_event(self._host.cluster, self.pod, self._host.node, kind, reason, message)

    async def fence(self) -> None:
        """The cluster has not heard of this node for too long and may run the pod elsewhere."""
        annotations = (self.pod.metadata.annotations if self.pod.metadata is not None else None) or {}
        if annotations.get(SELF_FENCE) != "true":
            return
        self._is_fenced = True
        self._prober.stop()
        while self._is_fenced:
            try:
                if await self._find_vm() is not None:
                    log.warning("pod %s: stopped, since its node's Lease could not be renewed", self.name)
                    await self._host.client.stop_vm(self.name, force=True)
            except (VolantError, OSError) as error:
                log.warning("pod %s: cannot be stopped: %s; trying again", self.name, error)
                await asyncio.sleep(FIRST_RETRY_SECONDS)
            else:
                return

    def let_go_on(self) -> None:
        """The cluster has heard of this node again: what is still the node's runs again."""
        if self._is_fenced:
            self._is_fenced = False
            self._changed.set()

    async def _find_vm(self) -> Vm | None:
        try:
            return await self._host.client.get_vm(self.name)
        except NotFound:
            return None

    async def _make_vm(self, pod: Pod) -> Vm:
        host, container = self._host, get_container(pod)
        try:
            plugin = await host.images.provide(container.image or "", container.imagePullPolicy)
            manifest = (await host.client.get_plugin(plugin))["manifest"]
        except (VolantError, OSError) as error:
            raise ImageFailed(str(error)) from error
        found = await host.cluster.find(pod)
        address = host.addresses.lease(pod)
        try:
            request = make_request(
                pod, found, plugin, node=host.node, pod_ip=address, host_ip=host.address,
                port=manifest["workload"]["port"],
            )  # fmt: skip
            vm = await host.boots.begin(request)
            self._files = self._make_changing_files(pod, address, found)
        except BaseException as error:
            host.addresses.release(address)
            # The agent before this one has made it; else another VM has what this one needs, such as its volume.
            if isinstance(error, Conflict) and (made := await self._find_vm()) is not None:
                return made
            raise
        await self._tell_event("Normal", "Started", f"VM {self.name} of plugin {plugin}")
        return vm

    async def _end(self, pod: Pod) -> None:
        """Stop the VM within the pod's grace, delete it, and let the pod go."""
        self._host.objects.leave(self.wake)
        vm = await self._find_vm()
        if vm is not None:
            if vm["status"] not in ("stopped", "failed", "created"):
                await self._host.client.stop_vm(self.name, timeout_seconds=self._find_grace(pod))
            await self._host.client.delete_vm(self.name, force=True, volumes=True)
            self._host.addresses.release(self._host.addresses.find(vm))
        if not self.is_orphan:
            await self._host.cluster.remove(pod)

    def _find_grace(self, pod: Pod) -> float:
        metadata = pod.metadata
        given = metadata.deletionGracePeriodSeconds if metadata is not None else None
        if given is None:
            given = get_spec(pod).terminationGracePeriodSeconds
        return bound_grace(DEFAULT_GRACE_SECONDS if given is None else given)

    async def _wait_for(self, error: BaseException) -> None:
        """Say what stands in the way as people know it, and try again later."""
        self.is_held = isinstance(error, Conflict)
        if isinstance(error, Missing):
            reason = error.reason
        elif isinstance(error, ImageFailed):
            reason = "ImagePullBackOff"
        else:
            reason = "ContainerCreating" if self.is_held else "CreateContainerError"
        log.warning("pod %s: %s: %s", self.name, reason, error)
        status = make_waiting_status(self.pod, reason, str(error), host_ip=self._host.address)
        try:
            if await self._is_without_vm():
                await self._tell(status)
                await self._tell_event("Warning", reason, str(error))
        except Exception as second:
            log.warning("pod %s: cannot tell its status: %s", self.name, second)
        self._retry_later()

    async def _is_without_vm(self) -> bool:
        try:
            return await self._find_vm() is None
        except (VolantError, OSError):
            return False

    def _is_early(self) -> bool:
        return asyncio.get_running_loop().time() < self._make_at

    def _retry_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._make_at = loop.time() + self._pause_seconds
        loop.call_at(self._make_at, self._changed.set)
        self._pause_seconds = min(2 * self._pause_seconds, MOST_RETRY_SECONDS)

    async def _tell(self, status: PodStatus) -> None:
        """What has not changed is not told again."""
        said = status.to_dict()
        if said == self._told:
            return
        if await self._host.cluster.tell_status(self.pod, said):
            self._told, self.pod.status = said, status


def _is_for_ever(pod: Pod) -> bool:
    return (get_spec(pod).restartPolicy or "Always") == "Always"
