# SPDX-License-Identifier: Apache-2.0
"""A pod as the VM that it becomes: pure functions from the pod and what it refers to.

What a VM cannot be is refused by name (`Refused`); nothing of a pod's specification that changes what its workload
sees is dropped in silence. docs/how-to/kubernetes.md has the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from lightkube.models.core_v1 import Container, PodSpec, Probe
from lightkube.resources.core_v1 import Pod

from volant.contract.api_types import HealthCheckRequest, PublishRequest, VmCreate, VolumeAttachment
from volant.kubernetes.environment import Expander, Fields, find_resources, make_environment
from volant.kubernetes.pod_files import make_files, place_files
from volant.kubernetes.probes import check_probe
from volant.kubernetes.references import Found, Refused, find_claim, get_container, get_spec

MOST_GRACE_SECONDS = 86_400
# Labels of a VM that say whose it is; the daemon keeps them, so that nothing starts twice.
NODE_LABEL = "volant.kubernetes.node"
UID_LABEL = "volant.kubernetes.uid"
POD_LABEL = "volant.kubernetes.pod"
# Of a VM that was stopped for good since a probe said so: which one.
KILLED_LABEL = "volant.kubernetes.killed"

MOST_HOSTNAME = 63
DEFAULT_MESSAGE_PATH = "/dev/termination-log"
_RESTART_POLICIES = {"Always": "always", "OnFailure": "on-failure", "Never": "no"}
# A guest that is told less than this about a volume cannot be.
_KNOWN_VOLUMES = (
    "configMap", "secret", "downwardAPI", "projected", "emptyDir", "persistentVolumeClaim", "ephemeral",
)  # fmt: skip


def name_vm(pod: Pod) -> str:
    """The VM's name: the pod's own as far as it fits, and enough of its UID to be nobody else's."""
    metadata = pod.metadata
    assert metadata is not None and metadata.uid
    readable = re.sub(r"[^a-z0-9-]", "-", f"{metadata.namespace}-{metadata.name}")[:50].strip("-")
    return f"{readable}-{metadata.uid[:8]}"


def check_pod(pod: Pod) -> None:
    """Raises Refused for what no VM can be."""
    spec = get_spec(pod)
    if len(spec.containers) != 1:
        raise Refused(
            "UnsupportedContainers", f"a VM has one container, and this pod has {len(spec.containers)}"
        )
    if spec.initContainers:
        raise Refused("UnsupportedInitContainers", "a VM has no init containers")
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if getattr(spec, name, None):
            raise Refused("UnsupportedHostNamespace", f"a VM has a kernel of its own: {name} cannot be")
    container = spec.containers[0]
    security = container.securityContext
    if security is not None and security.privileged:
        raise Refused(
            "UnsupportedSecurityContext",
            "a VM's workload has its whole kernel: privileged means nothing here",
        )
    if security is not None and security.readOnlyRootFilesystem:
        raise Refused(
            "UnsupportedSecurityContext", "a VM's disk is its own to write: readOnlyRootFilesystem cannot be"
        )
    for sysctl in (spec.securityContext.sysctls if spec.securityContext is not None else None) or []:
        if '"' in sysctl.value:
            raise Refused("UnsupportedSecurityContext", f"the sysctl {sysctl.name} has a value with a quote")
    if container.volumeDevices:
        raise Refused("UnsupportedVolume", "block devices (volumeDevices) are not given to VMs")
    if container.lifecycle is not None:
        raise Refused("UnsupportedLifecycle", "lifecycle hooks of containers are not run in VMs")
    for probe in list_probes(container):
        check_probe(container, probe)
    for volume in spec.volumes or []:
        if not any(getattr(volume, kind, None) is not None for kind in _KNOWN_VOLUMES):
            raise Refused("UnsupportedVolume", f"volume {volume.name} is of a kind that VMs are not given")
    mounted = [mount.name for mount in container.volumeMounts or []]
    for volume in spec.volumes or []:
        if find_claim(pod, volume) and mounted.count(volume.name) > 1:
            raise Refused("UnsupportedVolume", f"volume {volume.name} is mounted twice: a VM mounts it once")
    for mount in container.volumeMounts or []:
        if mount.subPath or mount.subPathExpr:
            raise Refused(
                "UnsupportedVolume", f"volume {mount.name} is mounted by a subPath, which VMs have not"
            )


def list_probes(container: Container) -> list[Probe]:
    probes = (container.startupProbe, container.livenessProbe, container.readinessProbe)
    return [probe for probe in probes if probe is not None]


def make_request(
    pod: Pod, found: Found, plugin: str, *, node: str, pod_ip: str, host_ip: str, port: int | None = None
) -> VmCreate:
    """What the daemon is asked for. `port`: the plugin's own. Raises Missing or Refused."""
    metadata, spec, container = pod.metadata, get_spec(pod), get_container(pod)
    assert metadata is not None and metadata.uid
    fields = Fields(pod, node, pod_ip, host_ip)
    environment = make_environment(container, fields, found)
    expand = Expander(environment)
    files = make_files(spec, container, fields, found)
    request: VmCreate = {
        "name": name_vm(pod),
        "plugin": plugin,
        "labels": {
            NODE_LABEL: node,
            UID_LABEL: metadata.uid,
            POD_LABEL: f"{metadata.namespace}/{metadata.name}",
        },
        "env": environment,
        "restart": _RESTART_POLICIES[spec.restartPolicy or "Always"],
        "run_once": spec.restartPolicy in ("Never", "OnFailure"),
    }
    if container.command:
        request["entrypoint"] = [expand(word) for word in [*container.command, *(container.args or [])]]
    elif container.args:
        request["command"] = [expand(word) for word in container.args]
    vcpu, memory_mib = find_resources(container)
    request["resources"] = {"vcpu": vcpu, "memory_mb": memory_mib, "nested": False}
    if pod_ip:
        request["publish"] = _publish(container, pod_ip)
    if volumes := list(list_attachments(pod, found)):
        request["volumes"] = volumes
    if files:
        request["files"] = place_files(files)
    request["message_path"] = container.terminationMessagePath or DEFAULT_MESSAGE_PATH
    _add_input(request, container)
    if container.workingDir:
        request["working_dir"] = container.workingDir
    _add_security(request, spec, container)
    if spec.hostAliases:
        request["extra_hosts"] = {
            name: alias.ip for alias in spec.hostAliases for name in alias.hostnames or [] if alias.ip
        }
    # A pod's name may be longer than a kernel lets a host's be: the kubelet cuts it so.
    request["hostname"] = spec.hostname or (metadata.name or "")[:MOST_HOSTNAME].rstrip("-.")
    if spec.terminationGracePeriodSeconds is not None:
        request["stop_timeout_seconds"] = bound_grace(spec.terminationGracePeriodSeconds)
    if container.readinessProbe is not None:
        # The node makes it: the plugin's own check would be one that nobody reads.
        request["health_check"] = _make_check("NONE")
    elif port not in [one.containerPort for one in container.ports or []]:
        # An image's EXPOSE is no promise that this pod's command listens there.
        request["health_check"] = _make_check("OWN")
    return request


def _publish(container: Container, pod_ip: str) -> list[PublishRequest]:
    """The ports that the container lists, at the pod's address."""
    return [
        {
            "host_ip": pod_ip,
            "host_port": port.containerPort,
            "guest_port": port.containerPort,
            "protocol": "udp" if port.protocol == "UDP" else "tcp",
        }
        for port in container.ports or []
        if port.protocol in (None, "TCP", "UDP")
    ]


def _add_input(request: VmCreate, container: Container) -> None:
    if container.stdin:
        request["stdin"], request["stdin_once"] = True, bool(container.stdinOnce)
    if container.tty:
        request["tty"] = True


def _add_security(request: VmCreate, spec: PodSpec, container: Container) -> None:
    if user := find_user(spec, container):
        request["user"] = user
    if groups := list_groups(spec):
        request["groups"] = groups
    if spec.securityContext is not None and spec.securityContext.sysctls:
        # The kernel is the pod's own, and sets them itself before it starts anything.
        request["kernel_arguments"] = " ".join(
            f'sysctl.{one.name}="{one.value}"' for one in spec.securityContext.sysctls
        )


def _make_check(test: Literal["NONE", "OWN"]) -> HealthCheckRequest:
    return {
        "test": [test], "interval_seconds": None, "timeout_seconds": None, "start_period_seconds": None,
        "retries": None,
    }  # fmt: skip


def bound_grace(seconds: int) -> float:
    """As long as the daemon waits for anybody: a pod that is given years has to end, too."""
    return float(min(max(0, seconds), MOST_GRACE_SECONDS))


def list_attachments(pod: Pod, found: Found) -> Iterator[VolumeAttachment]:
    """The daemon's volumes where the pod mounts its claims."""
    volumes = {volume.name: volume for volume in get_spec(pod).volumes or []}
    for mount in get_container(pod).volumeMounts or []:
        volume = volumes.get(mount.name)
        if volume is None or not (claim := find_claim(pod, volume)):
            continue
        source = volume.persistentVolumeClaim
        is_read_only = bool(mount.readOnly or (source is not None and source.readOnly))
        yield {"name": found.volumes[claim], "target": mount.mountPath, "read_only": is_read_only}


def list_groups(spec: PodSpec) -> list[int]:
    """The supplementary groups that the pod's processes are in: that of its volumes, and those that it names."""
    security = spec.securityContext
    if security is None:
        return []
    own = [security.fsGroup] if security.fsGroup is not None else []
    return list(dict.fromkeys([*own, *(security.supplementalGroups or [])]))


def find_user(spec: PodSpec, container: Container) -> str:
    """The user that the workload runs as, as the container says it, else the pod; empty: the image's."""
    for security in (container.securityContext, spec.securityContext):
        if security is not None and security.runAsUser is not None:
            group = security.runAsGroup
            return f"{security.runAsUser}:{group}" if group is not None else str(security.runAsUser)
    return ""
