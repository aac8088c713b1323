# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from lightkube.resources.core_v1 import Pod

from support.fake_cluster import make_vm, read_pod
from volant.contract.api_types import Vm
from volant.kubernetes.runs import find_began, find_previous_start, find_run, read_run
from volant.kubernetes.status import make_status

LATER = "2026-11-27T11:00:00.000Z"


def make_pod() -> Pod:
    spec = {"containers": [{"name": "web", "image": "web:1.0.0"}]}
    return read_pod({"metadata": {"name": "web", "uid": "u"}, "spec": spec})


def process(restarts: int, state: str = "running", **more: Any) -> list[dict[str, Any]]:
    return [{"name": "workload", "state": state, "restarts": restarts, **more}]


def tell(pod: Pod, vm: Vm, **told: Any) -> dict[str, Any]:
    """What is told of the pod, which knows it from then on."""
    pod.status = make_status(pod, vm, host_ip="192.0.2.1", pod_ip="", **told)
    (container,) = pod.status.to_dict()["containerStatuses"]
    return dict(container)


def test_a_run_has_a_name_that_says_which_it_is() -> None:
    run = find_run(make_vm(processes=process(2)))
    assert str(run) == "volant://7/2026-11-27T10:00:00.000Z/2"
    assert read_run(str(run)) == run
    assert read_run(None) is read_run("docker://7") is None
    assert find_run(make_vm(started_at=None)) is None
    again = make_vm(processes=process(2, started_at=LATER))
    assert (find_began(again), find_began(make_vm())) == (LATER, "2026-11-27T10:00:00.000Z")


def test_restarts_are_counted_for_ever_and_the_last_end_is_kept() -> None:
    pod = make_pod()
    assert tell(pod, make_vm())["restartCount"] == 0
    fallen = tell(pod, make_vm(processes=process(0, "backoff", exit_code=5, reason="exit status 5")))
    assert fallen["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert fallen["lastState"]["terminated"]["exitCode"] == 5
    again = tell(pod, make_vm(processes=process(1)))
    assert (again["restartCount"], again["lastState"]["terminated"]["exitCode"]) == (1, 5)
    # The VM itself starts again, and counts its process' restarts from none.
    other = tell(pod, make_vm(started_at=LATER), killed="failed liveness probe: no")
    assert other["restartCount"] == 2
    assert other["lastState"]["terminated"] | {"finishedAt": ""} == {
        "exitCode": 137, "reason": "Error", "message": "failed liveness probe: no", "finishedAt": "",
        "startedAt": "2026-11-27T10:00:00Z", "containerID": "volant://7/2026-11-27T10:00:00.000Z/1",
    }  # fmt: skip
    assert tell(pod, make_vm(started_at=LATER)) == other, "told once"
    started = find_previous_start(pod)
    assert started is not None
    assert started.isoformat() == "2026-11-27T10:00:00+00:00"


def test_a_vm_that_comes_up_again_does_not_count_the_processes_of_its_start_before() -> None:
    pod = make_pod()
    tell(pod, make_vm(processes=process(3)))
    rising = make_vm(started_at=LATER, status="starting", agent={"connected": False}, processes=process(3))
    assert tell(pod, rising)["restartCount"] == 4
    assert tell(pod, make_vm(started_at=LATER))["restartCount"] == 4
