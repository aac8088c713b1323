# SPDX-License-Identifier: Apache-2.0
"""Runs of a pod's workload: which one this is, how many came before it, and how the last of those ended.

A run begins with a start of the VM, or when the agent in it starts the workload again. Its name is the pod's
`containerID`, so that an agent that was killed knows what was told of before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from lightkube.models.core_v1 import ContainerState, ContainerStateTerminated, ContainerStatus
from lightkube.resources.core_v1 import Pod

from volant.contract.api_types import Vm
from volant.digits import is_whole_number

SCHEME = "volant://"
KILLED_EXIT_CODE = 137


@dataclass(frozen=True, slots=True)
class Run:
    """`boot`: when the VM was started; `count`: how often the workload was started again since."""

    vm: str
    boot: str
    count: int

    def __str__(self) -> str:
        return f"{SCHEME}{self.vm}/{self.boot}/{self.count}"


def find_run(vm: Vm) -> Run | None:
    """The run that the VM is in, or was in when it ended; None: it was never started."""
    if not vm["started_at"]:
        return None
    # Before its agent has answered, a VM shows the processes of its start before.
    process = vm["processes"][0] if vm["processes"] and vm["agent"]["connected"] else None
    return Run(vm["id"], vm["started_at"], process.get("restarts", 0) if process is not None else 0)


def read_run(container_id: str | None) -> Run | None:
    scheme, _, name = (container_id or "").partition("://")
    parts = name.rsplit("/", 2)
    if f"{scheme}://" != SCHEME or len(parts) != 3 or not is_whole_number(parts[2]):
        return None
    return Run(parts[0], parts[1], int(parts[2]))


def find_began(vm: Vm) -> str:
    """When this run began, RFC 3339, for the lines that it wrote; empty: never."""
    process = vm["processes"][0] if vm["processes"] and vm["agent"]["connected"] else None
    if process is not None and process.get("restarts", 0) and process.get("started_at"):
        return process["started_at"] or ""
    return vm["started_at"] or ""


def count_restarts(before: ContainerStatus | None, run: Run | None, vm: Vm) -> int:
    """How often it was started again, ever: the VM itself counts only those in a row."""
    told = before.restartCount if before is not None else 0
    last = read_run(before.containerID) if before is not None else None
    if run is None:
        return told
    if last is None:
        return told + vm.get("restarts", 0) + run.count
    if last.boot == run.boot:
        return told + max(0, run.count - last.count)
    return told + 1 + run.count


def find_last_state(
    before: ContainerStatus | None,
    run: Run | None,
    ended: ContainerStateTerminated | None,
    killed: str,
) -> ContainerState | None:
    """How the run before ended. `ended`: this one, where it has ended and another is to come; `killed`: by us, why."""
    last = before.lastState if before is not None else None
    told = last.terminated.containerID if last is not None and last.terminated is not None else None
    if ended is not None:
        return last if told == ended.containerID else ContainerState(terminated=ended)
    if before is None or run is None or not before.containerID or before.containerID == str(run):
        return last
    if told == before.containerID:
        return last
    running = before.state.running if before.state is not None else None
    if before.state is not None and before.state.terminated is not None:
        return ContainerState(terminated=before.state.terminated)
    # Nobody saw it end.
    made = ContainerStateTerminated(
        exitCode=KILLED_EXIT_CODE, reason="Error", message=killed or None, containerID=before.containerID,
        startedAt=running.startedAt if running is not None else None, finishedAt=now(),
    )  # fmt: skip
    return ContainerState(terminated=made)


def find_previous_start(pod: Pod) -> datetime | None:
    """When the run before this one began."""
    statuses = (pod.status.containerStatuses if pod.status is not None else None) or []
    last = statuses[0].lastState if statuses else None
    return last.terminated.startedAt if last is not None and last.terminated is not None else None


def find_remaining_seconds(pod: Pod) -> float | None:
    """How long the pod may still be active; None: for ever."""
    limit = pod.spec.activeDeadlineSeconds if pod.spec is not None else None
    began = pod.status.startTime if pod.status is not None else None
    if limit is None or began is None:
        return None
    return limit - (datetime.now(UTC) - began).total_seconds()


def now() -> datetime:
    """As the cluster keeps times: to the second, so that what was told and what is read are the same."""
    return datetime.now(UTC).replace(microsecond=0)


def parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(microsecond=0) if text else None
