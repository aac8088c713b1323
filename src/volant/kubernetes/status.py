# SPDX-License-Identifier: Apache-2.0
"""What a VM tells of itself as a pod's status, with the reasons that people know from Kubernetes: pure functions."""

from __future__ import annotations

from datetime import UTC, datetime

from lightkube.models.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    PodCondition,
    PodIP,
    PodStatus,
)
from lightkube.resources.core_v1 import Pod

from volant.contract.api_types import Vm
from volant.kubernetes.references import get_container

_OUT_OF_MEMORY = ("guest-out-of-memory", "host-out-of-memory", "memory-limit")


def make_waiting_status(pod: Pod, reason: str, message: str, *, host_ip: str) -> PodStatus:
    """The status of a pod that has no VM yet."""
    state = ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))
    return _make_status(pod, "Pending", state, ready=False, restarts=0, host_ip=host_ip, pod_ip="", vm=None)


def make_refused_status(pod: Pod, reason: str, message: str, *, host_ip: str) -> PodStatus:
    return PodStatus(
        phase="Failed", reason=reason, message=message, hostIP=host_ip, startTime=_find_start(pod),
        conditions=_make_conditions(pod, initialized=False, ready=False),
    )  # fmt: skip


def make_status(pod: Pod, vm: Vm, *, host_ip: str, pod_ip: str) -> PodStatus:
    """The status of a pod whose VM there is."""
    policy = pod.spec.restartPolicy if pod.spec is not None else "Always"
    state, phase = _find_state(vm, policy or "Always")
    ready = state.running is not None and vm["health"] in ("healthy", "unknown")
    restarts = vm.get("restarts", 0) + sum(process.get("restarts", 0) for process in vm["processes"][:1])
    return _make_status(
        pod, phase, state, ready=ready, restarts=restarts, host_ip=host_ip, pod_ip=pod_ip, vm=vm
    )


def _find_state(vm: Vm, policy: str) -> tuple[ContainerState, str]:
    match vm["status"]:
        case "running" | "paused" | "suspended":
            process = vm["processes"][0] if vm["processes"] else None
            if process is not None and process["state"] == "backoff":
                return _waiting("CrashLoopBackOff", process.get("reason", "")), "Running"
            if process is None and not vm["agent"]["connected"]:
                return _waiting("ContainerCreating", vm["status_reason"]), "Pending"
            return ContainerState(
                running=ContainerStateRunning(startedAt=_parse(vm["started_at"]))
            ), "Running"
        case "stopping":
            return ContainerState(
                running=ContainerStateRunning(startedAt=_parse(vm["started_at"]))
            ), "Running"
        case "stopped" | "failed":
            return _find_end(vm, policy)
        case _:
            return _waiting("ContainerCreating", vm["status_reason"]), "Pending"


def _find_end(vm: Vm, policy: str) -> tuple[ContainerState, str]:
    crash, code = vm["crash"], vm["exit_code"]
    if crash is not None:
        out_of_memory = crash["kind"] in _OUT_OF_MEMORY
        code = code if code is not None else 137
        reason = "OOMKilled" if out_of_memory else "Error"
        message = crash["line"] or vm["status_reason"]
    else:
        code = code if code is not None else (1 if vm["status"] == "failed" else 0)
        reason, message = ("Completed" if code == 0 else "Error"), vm["status_reason"]
    if policy == "Always" or (policy == "OnFailure" and code != 0):
        # The daemon starts it again, after a while that grows.
        return _waiting("CrashLoopBackOff", message), "Running"
    ended = ContainerStateTerminated(
        exitCode=code, reason=reason, message=message or None, startedAt=_parse(vm["started_at"]),
        finishedAt=datetime.now(UTC),
    )  # fmt: skip
    return ContainerState(terminated=ended), "Succeeded" if code == 0 else "Failed"


def _waiting(reason: str, message: str) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message or None))


def _make_status(
    pod: Pod, phase: str, state: ContainerState, *, ready: bool, restarts: int, host_ip: str, pod_ip: str,
    vm: Vm | None,
) -> PodStatus:  # fmt: skip
    container = get_container(pod)
    before = _find_container_status(pod)
    if (
        state.terminated is not None
        and before is not None
        and before.state is not None
        and before.state.terminated is not None
    ):
        # It ended once: the instant stays what it was.
        state.terminated.finishedAt = before.state.terminated.finishedAt
    status = ContainerStatus(
        name=container.name, image=container.image or "", imageID=vm["plugin"]["name"] if vm else "",
        containerID=f"volant://{vm['id']}" if vm else None, ready=ready, restartCount=restarts,
        started=state.running is not None, state=state,
    )  # fmt: skip
    return PodStatus(
        phase=phase, hostIP=host_ip, hostIPs=[HostIP(ip=host_ip)], podIP=pod_ip or None,
        podIPs=[PodIP(ip=pod_ip)] if pod_ip else None, startTime=_find_start(pod), containerStatuses=[status],
        conditions=_make_conditions(pod, initialized=True, ready=ready),
        qosClass=pod.status.qosClass if pod.status is not None else None,
    )  # fmt: skip


def _make_conditions(pod: Pod, *, initialized: bool, ready: bool) -> list[PodCondition]:
    """The four that everybody reads; the time of each is that of its last change."""
    before = {one.type: one for one in (pod.status.conditions or [])} if pod.status is not None else {}
    wanted = {
        "PodScheduled": True, "Initialized": initialized, "ContainersReady": ready, "Ready": ready,
        "PodReadyToStartContainers": initialized,
    }  # fmt: skip
    made = []
    for kind, value in wanted.items():
        text = "True" if value else "False"
        old = before.get(kind)
        changed = old.lastTransitionTime if old is not None and old.status == text else datetime.now(UTC)
        made.append(PodCondition(type=kind, status=text, lastTransitionTime=changed))
    return made


def _find_container_status(pod: Pod) -> ContainerStatus | None:
    statuses = (pod.status.containerStatuses if pod.status is not None else None) or []
    return statuses[0] if statuses else None


def _find_start(pod: Pod) -> datetime:
    started = pod.status.startTime if pod.status is not None else None
    return started or datetime.now(UTC)


def _parse(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
