# SPDX-License-Identifier: Apache-2.0
"""The host as a Node, and its Lease: what kube-scheduler and the node controller read of it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lightkube.core.exceptions import ApiError
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.core_v1 import (
    DaemonEndpoint,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    Taint,
)
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Node
from lightkube.types import PatchType

from volant import __version__
from volant.errors import Conflict
from volant.kubernetes.cluster import Cluster

TAINT = Taint(key="virtual-kubelet.io/provider", value="volant", effect="NoSchedule")
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
MIB = 1 << 20
# The kubelet's own default for a pod's number; each VM is a QEMU of its own besides.
DEFAULT_PODS = 110
# Kubernetes 1.36 hands WebSockets on to a node that says so, and speaks SPDY to all others.
_FEATURES = ["ExtendWebSocketsToKubelet"]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a node says of its host. `reserve_*`: kept for the host itself."""

    name: str
    address: str
    port: int
    processors: int
    memory_mib: int
    disk_mib: int
    reserve_memory_mib: int
    pods: int = DEFAULT_PODS


def read_host(name: str, address: str, port: int, state: Path, *, pods: int = DEFAULT_PODS) -> HostFacts:
    """The host as it is; a tenth of its memory, at least 256 MiB, stays its own."""
    import os

    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB
    disk = os.statvfs(state)
    return HostFacts(
        name=name, address=address, port=port, processors=os.cpu_count() or 1, memory_mib=memory_mib,
        disk_mib=disk.f_frsize * disk.f_bavail // MIB, reserve_memory_mib=max(256, memory_mib // 10), pods=pods,
    )  # fmt: skip


def make_node(facts: HostFacts) -> Node:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": facts.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture,
        "type": "virtual-kubelet",
    }  # fmt: skip
    return Node(metadata=ObjectMeta(name=facts.name, labels=labels), spec=NodeSpec(taints=[TAINT]))


def make_node_status(facts: HostFacts, architecture: str, daemon_version: str) -> NodeStatus:
    now = datetime.now(UTC)
    capacity = {
        "cpu": str(facts.processors), "memory": f"{facts.memory_mib}Mi",
        "ephemeral-storage": f"{facts.disk_mib}Mi", "pods": str(facts.pods),
    }  # fmt: skip
    allocatable = {**capacity, "memory": f"{max(0, facts.memory_mib - facts.reserve_memory_mib)}Mi"}
    conditions = [
        NodeCondition(
            type=kind, status=status, reason=reason, message=message, lastHeartbeatTime=now, lastTransitionTime=now
        )
        for kind, status, reason, message in (
            ("Ready", "True", "VolantReady", "volantd answers"),
            ("MemoryPressure", "False", "VolantHasMemory", "each VM's memory is its own"),
            ("DiskPressure", "False", "VolantHasDisk", "there is room"),
            ("PIDPressure", "False", "VolantHasProcesses", "each VM's processes are its own"),
            ("NetworkUnavailable", "False", "VolantHasNetwork", "VMs are reached at their pods' addresses"),
        )
    ]  # fmt: skip
    return NodeStatus(
        capacity=capacity, allocatable=allocatable, conditions=conditions,
        addresses=[
            NodeAddress(type="InternalIP", address=facts.address), NodeAddress(type="Hostname", address=facts.name)
        ],
        daemonEndpoints=NodeDaemonEndpoints(kubeletEndpoint=DaemonEndpoint(Port=facts.port)),
        declaredFeatures=_FEATURES,
        nodeInfo=NodeSystemInfo(
            architecture=architecture, bootID=_read("/proc/sys/kernel/random/boot_id"),
            machineID=_read("/etc/machine-id"), systemUUID=_read("/etc/machine-id"), operatingSystem="linux",
            kernelVersion=platform.release(), osImage=_read_os_name(), kubeProxyVersion="",
            containerRuntimeVersion=f"volant://{daemon_version}", kubeletVersion=f"v1.36.0-volant-{__version__}",
        ),
    )  # fmt: skip


async def register(cluster: Cluster, facts: HostFacts, daemon_version: str) -> Node:
    """Make the Node, or take up the one that there is; returns it as the cluster has it.

    Conflict where another host is that node just now: two would make VMs of the same pods.
    """
    wanted = make_node(facts)
    assert wanted.metadata is not None and wanted.metadata.labels is not None
    try:
        node = await cluster.client.create(wanted)
    except ApiError as error:
        if error.status.code != 409:
            raise
        await _check_nobody_else(cluster, facts)
        node = await cluster.client.patch(Node, facts.name, {"metadata": {"labels": wanted.metadata.labels}})
    await tell_status(cluster, facts, daemon_version)
    return node


async def _check_nobody_else(cluster: Cluster, facts: HostFacts) -> None:
    try:
        node = await cluster.client.get(Node, facts.name)
        lease = await cluster.client.get(Lease, facts.name, namespace=LEASE_NAMESPACE)
    except ApiError as error:
        if error.status.code == 404:
            return
        raise
    info = node.status.nodeInfo if node.status is not None else None
    renewed = lease.spec.renewTime if lease.spec is not None else None
    if info is None or renewed is None or not info.machineID or info.machineID == _read("/etc/machine-id"):
        return
    if datetime.now(UTC) - renewed < timedelta(seconds=LEASE_SECONDS):
        raise Conflict(
            f"cannot be node {facts.name}: another host is, whose machine-id is {info.machineID}",
            resolution="give this host a node of its own: volar cluster leave, then volar cluster join --node NAME",
        )


async def tell_status(cluster: Cluster, facts: HostFacts, daemon_version: str) -> None:
    labels = make_node(facts).metadata
    assert labels is not None and labels.labels is not None
    status = make_node_status(facts, labels.labels["kubernetes.io/arch"], daemon_version)
    await cluster.client.patch(
        Node.Status, facts.name, {"status": status.to_dict()}, patch_type=PatchType.STRATEGIC
    )


async def renew_lease(cluster: Cluster, node: Node) -> None:
    """One heartbeat."""
    assert node.metadata is not None and node.metadata.name and node.metadata.uid
    name, now = node.metadata.name, datetime.now(UTC)
    spec = LeaseSpec(holderIdentity=name, leaseDurationSeconds=LEASE_SECONDS, renewTime=now)
    try:
        await cluster.client.patch(Lease, name, {"spec": spec.to_dict()}, namespace=LEASE_NAMESPACE)
    except ApiError as error:
        if error.status.code != 404:
            raise
        owner = OwnerReference(apiVersion="v1", kind="Node", name=name, uid=node.metadata.uid)
        metadata = ObjectMeta(name=name, namespace=LEASE_NAMESPACE, ownerReferences=[owner])
        await cluster.client.create(Lease(metadata=metadata, spec=spec))


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _read_os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
