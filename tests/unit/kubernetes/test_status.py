# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from lightkube.resources.core_v1 import Pod

from support.fake_cluster import make_vm, read_pod
from volant.contract.api_types import Vm
from volant.kubernetes.status import make_refused_status, make_status, make_waiting_status

HOST, ADDRESS = "192.0.2.1", "10.1.0.2"
# As kestrel says it: internal/supervise/ending.go.
RAN_OUT = "killed by SIGKILL (the guest ran out of memory)"


def make_pod(policy: str = "Always") -> Pod:
    spec = {"containers": [{"name": "web", "image": "web:1.0.0"}], "restartPolicy": policy}
    return read_pod({"metadata": {"name": "web", "uid": "u"}, "spec": spec})


def tell(vm: Vm, policy: str = "Always") -> dict[str, Any]:
    said = make_status(make_pod(policy), vm, host_ip=HOST, pod_ip=ADDRESS).to_dict()
    (container,) = said["containerStatuses"]
    conditions = {one["type"]: one["status"] for one in said["conditions"]}
    told = {"phase": said["phase"], "ready": conditions["Ready"], "restarts": container["restartCount"]}
    return told | container["state"]


def test_a_healthy_vm_is_a_ready_pod() -> None:
    told = tell(make_vm())
    assert (told["phase"], told["ready"]) == ("Running", "True")
    assert "startedAt" in told["running"]


@pytest.mark.parametrize(
    ("health", "ready"), [("starting", "False"), ("unhealthy", "False"), ("unknown", "True")]
)
def test_health_is_readiness_and_a_workload_without_a_check_is_ready(health: str, ready: str) -> None:
    assert tell(make_vm(health=health))["ready"] == ready


@pytest.mark.parametrize("status", ["created", "starting"])
def test_a_vm_that_comes_up_is_pending(status: str) -> None:
    told = tell(make_vm(status=status, health="unknown", processes=[]))
    assert (told["phase"], told["waiting"]["reason"], told["ready"]) == (
        "Pending",
        "ContainerCreating",
        "False",
    )


def test_a_workload_that_falls_again_and_again_backs_off() -> None:
    told = tell(
        make_vm(processes=[{"name": "workload", "state": "backoff", "restarts": 4, "reason": "exit 1"}])
    )
    assert (told["phase"], told["waiting"]["reason"], told["restarts"]) == ("Running", "CrashLoopBackOff", 4)


def test_a_workload_that_the_guests_kernel_killed_is_told_as_that() -> None:
    process = {"name": "w", "state": "backoff", "restarts": 0, "reason": f"{RAN_OUT}; starts again in 1s"}
    said = make_status(make_pod(), make_vm(processes=[process]), host_ip=HOST, pod_ip=ADDRESS).to_dict()
    (container,) = said["containerStatuses"]
    ended = container["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_workload_that_ended_well_and_comes_again_has_completed() -> None:
    process = {"name": "w", "state": "backoff", "restarts": 0, "exit_code": 0, "reason": "exited with 0"}
    said = make_status(make_pod(), make_vm(processes=[process]), host_ip=HOST, pod_ip=ADDRESS).to_dict()
    ended = said["containerStatuses"][0]["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("Completed", 0)


@pytest.mark.parametrize(
    ("vm", "policy", "phase", "code", "reason"),
    [
        ({"status": "stopped", "exit_code": 0}, "Never", "Succeeded", 0, "Completed"),
        ({"status": "failed", "exit_code": 3}, "Never", "Failed", 3, "Error"),
        ({"status": "stopped", "exit_code": 0}, "OnFailure", "Succeeded", 0, "Completed"),
        (
            {"status": "failed", "crash": {"kind": "memory-limit", "line": ""}},
            "Never",
            "Failed",
            137,
            "OOMKilled",
        ),
        (
            {
                "status": "stopped",
                "exit_code": 137,
                "processes": [{"name": "w", "state": "failed", "restarts": 0, "reason": RAN_OUT}],
            },
            "Never",
            "Failed",
            137,
            "OOMKilled",
        ),
        ({"status": "failed", "crash": {"kind": "panic", "line": "Oops"}}, "Never", "Failed", 137, "Error"),
    ],
)
def test_an_end_has_its_code_and_reason(
    vm: dict[str, Any], policy: str, phase: str, code: int, reason: str
) -> None:
    told = tell(make_vm(**vm), policy)
    assert (told["phase"], told["terminated"]["exitCode"], told["terminated"]["reason"]) == (
        phase,
        code,
        reason,
    )


def test_an_end_that_is_not_the_last_is_a_back_off() -> None:
    assert tell(make_vm(status="failed", exit_code=1), "OnFailure")["waiting"]["reason"] == "CrashLoopBackOff"


def test_conditions_keep_the_time_of_their_change() -> None:
    pod = make_pod()
    pod.status = make_status(pod, make_vm(), host_ip=HOST, pod_ip=ADDRESS)
    again = make_status(pod, make_vm(), host_ip=HOST, pod_ip=ADDRESS)
    assert again.to_dict() == pod.status.to_dict()


def test_a_pod_without_a_vm_waits_or_has_failed() -> None:
    waiting = make_waiting_status(make_pod(), "ImagePullBackOff", "no such image", host_ip=HOST).to_dict()
    assert waiting["phase"] == "Pending"
    (container,) = waiting["containerStatuses"]
    assert container["state"]["waiting"] == {"reason": "ImagePullBackOff", "message": "no such image"}
    refused = make_refused_status(make_pod(), "UnsupportedVolume", "no", host_ip=HOST).to_dict()
    assert (refused["phase"], refused["reason"]) == ("Failed", "UnsupportedVolume")
