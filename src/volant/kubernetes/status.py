# SPDX-License-Identifier: Apache-2.0
"""What a VM tells of itself as a pod's status, with the reasons that people know from Kubernetes: pure functions."""

from __future__ import annotations

from datetime import datetime

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
from volant.kubernetes.pods import KILLED_LABEL
from volant.kubernetes.references import get_container
from volant.kubernetes.runs import (
    KILLED_EXIT_CODE,
    Run,
    count_restarts,
    find_began,
    find_last_state,
    find_run,
    now,
    parse_time,
)

DEADLINE_EXCEEDED = "DeadlineExceeded"
_OUT_OF_MEMORY = ("guest-out-of-memory", "host-out-of-memory", "memory-limit")
# How the agent in the guest says of a process that the guest's kernel killed it for lack of memory.
_GUEST_RAN_OUT = "(the guest ran out of memory)"


def make_waiting_status(pod: Pod, reason: str, message: str, *, host_ip: str) -> PodStatus:
    """The status of a pod that has no VM yet."""
    state = ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))
    container = get_container(pod)
    status = ContainerStatus(
        name=container.name, image=container.image or "", imageID="", ready=False, restartCount=0, started=False,
        state=state,
    )  # fmt: skip
    return _make_status(pod, "Pending", status, host_ip=host_ip, pod_ip="")


def make_refused_status(pod: Pod, reason: str, message: str, *, host_ip: str) -> PodStatus:
    return PodStatus(
        phase="Failed", reason=reason, message=message, hostIP=host_ip, startTime=_find_start(pod),
        conditions=_make_conditions(pod, initialized=False, ready=False),
    )  # fmt: skip


def make_overdue_status(pod: Pod, vm: Vm | None, *, host_ip: str, pod_ip: str) -> PodStatus:
    """The status of a pod that was stopped since it ran for longer than its activeDeadlineSeconds."""
    message = "Pod was active on the node longer than the specified deadline"
    if vm is None:
        return make_refused_status(pod, DEADLINE_EXCEEDED, message, host_ip=host_ip)
    status = make_status(pod, vm, host_ip=host_ip, pod_ip=pod_ip)
    status.phase, status.reason, status.message = "Failed", DEADLINE_EXCEEDED, message
    for container in status.containerStatuses or []:
        container.state = ContainerState(terminated=_find_end(vm, find_run(vm)))
    return status


def make_status(
    pod: Pod, vm: Vm, *, host_ip: str, pod_ip: str, is_started: bool = True, is_ready: bool | None = None,
    killed: str = "",
) -> PodStatus:  # fmt: skip
    """The status of a pod whose VM there is.

    `is_started`, `is_ready`: what its probes say; without one for readiness (None) the VM's own health counts.
    `killed`: why its run before was ended by us.
    """
    policy = (pod.spec.restartPolicy if pod.spec is not None else None) or "Always"
    before, run = _find_container_status(pod), find_run(vm)
    state, phase, ended = _find_state(vm, policy, run)
    is_healthy = vm["health"] in ("healthy", "unknown") if is_ready is None else is_ready
    is_running = state.running is not None
    status = ContainerStatus(
        name=get_container(pod).name, image=get_container(pod).image or "", imageID=vm["plugin"]["name"],
        containerID=str(run) if run is not None else before.containerID if before is not None else None,
        ready=is_running and is_started and is_healthy, restartCount=count_restarts(before, run, vm),
        started=is_running and is_started, state=_keep_end(state, before),
        lastState=find_last_state(before, run, ended, killed),
    )  # fmt: skip
    return _make_status(pod, phase, status, host_ip=host_ip, pod_ip=pod_ip)


def _find_state(
    vm: Vm, policy: str, run: Run | None
) -> tuple[ContainerState, str, ContainerStateTerminated | None]:
    """(state, the pod's phase, how this run ended where another comes)."""
    process = vm["processes"][0] if vm["processes"] else None
    match vm["status"]:
        case "running" | "paused" | "suspended":
            if process is not None and process["state"] == "backoff":
                code = process.get("exit_code")
                reason = process.get("reason", "")
                why = "OOMKilled" if _GUEST_RAN_OUT in reason else "Error" if code != 0 else "Completed"
                left = find_last_message(vm) or reason
                ended = _make_end(vm, run, KILLED_EXIT_CODE if code is None else code, why, left)
                return _waiting("CrashLoopBackOff", reason), "Running", ended
            if process is None and not vm["agent"]["connected"]:
                return _waiting("ContainerCreating", vm["status_reason"]), "Pending", None
            return _running(vm), "Running", None
        case "stopping":
            return _running(vm), "Running", None
        case "stopped" | "failed":
            ended = _find_end(vm, run)
            if policy == "Always" or (policy == "OnFailure" and ended.exitCode != 0):
                # The daemon starts it again, after a while that grows.
                return _waiting("CrashLoopBackOff", ended.message or ""), "Running", ended
            phase = "Succeeded" if ended.exitCode == 0 else "Failed"
            return ContainerState(terminated=ended), phase, None
        case _:
            return _waiting("ContainerCreating", vm["status_reason"]), "Pending", None


def _find_end(vm: Vm, run: Run | None) -> ContainerStateTerminated:
    crash, code = vm["crash"], vm["exit_code"]
    if (why := vm["labels"].get(KILLED_LABEL)) is not None:
        return _make_end(vm, run, KILLED_EXIT_CODE, "Error", f"failed {why} probe")
    if crash is not None:
        reason = "OOMKilled" if crash["kind"] in _OUT_OF_MEMORY else "Error"
        code = KILLED_EXIT_CODE if code is None else code
        return _make_end(vm, run, code, reason, crash["line"] or vm["status_reason"])
    said = vm["processes"][0].get("reason", "") if vm["processes"] else ""
    if _GUEST_RAN_OUT in said:
        return _make_end(vm, run, KILLED_EXIT_CODE, "OOMKilled", said)
    code = code if code is not None else (1 if vm["status"] == "failed" else 0)
    # What the workload left counts; else why it failed, while of what went well there is nothing to tell.
    message = find_last_message(vm) or (vm["status_reason"] if code else "")
    return _make_end(vm, run, code, "Completed" if code == 0 else "Error", message)


def find_last_message(vm: Vm) -> str:
    """What the workload left of its end, in the file that it was offered (terminationMessagePath)."""
    return vm.get("last_message", "")


def _make_end(vm: Vm, run: Run | None, code: int, reason: str, message: str) -> ContainerStateTerminated:
    return ContainerStateTerminated(
        exitCode=code, reason=reason, message=message or None, startedAt=parse_time(find_began(vm)), finishedAt=now(),
        containerID=str(run) if run is not None else None,
    )  # fmt: skip


def _running(vm: Vm) -> ContainerState:
    return ContainerState(running=ContainerStateRunning(startedAt=parse_time(find_began(vm))))


def _waiting(reason: str, message: str) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message or None))


def _keep_end(state: ContainerState, before: ContainerStatus | None) -> ContainerState:
    """It ends once: the instant stays what was told."""
    told = before.state.terminated if before is not None and before.state is not None else None
    if state.terminated is not None and told is not None:
        state.terminated.finishedAt = told.finishedAt
    return state


def _make_status(pod: Pod, phase: str, status: ContainerStatus, *, host_ip: str, pod_ip: str) -> PodStatus:
    return PodStatus(
        phase=phase, hostIP=host_ip, hostIPs=[HostIP(ip=host_ip)], podIP=pod_ip or None,
        podIPs=[PodIP(ip=pod_ip)] if pod_ip else None, startTime=_find_start(pod), containerStatuses=[status],
        conditions=_make_conditions(pod, initialized=True, ready=status.ready),
        qosClass=pod.status.qosClass if pod.status is not None else None,
    )  # fmt: skip


def _make_conditions(pod: Pod, *, initialized: bool, ready: bool) -> list[PodCondition]:
    """The four that everybody reads; the time of each is that of its last change."""
    before = {one.type: one for one in (pod.status.conditions or [])} if pod.status is not None else {}
    gates = (pod.spec.readinessGates if pod.spec is not None else None) or []
    is_let = all(
        (one := before.get(gate.conditionType)) is not None and one.status == "True" for gate in gates
    )
    wanted = {
        "PodScheduled": True, "Initialized": initialized, "ContainersReady": ready, "Ready": ready and is_let,
        "PodReadyToStartContainers": initialized,
    }  # fmt: skip
    made = []
    for kind, value in wanted.items():
        text = "True" if value else "False"
        old = before.get(kind)
        changed = old.lastTransitionTime if old is not None and old.status == text else now()
        made.append(PodCondition(type=kind, status=text, lastTransitionTime=changed))
    return made


def _find_container_status(pod: Pod) -> ContainerStatus | None:
    statuses = (pod.status.containerStatuses if pod.status is not None else None) or []
    return statuses[0] if statuses else None


def _find_start(pod: Pod) -> datetime:
    started = pod.status.startTime if pod.status is not None else None
    return started or now()
