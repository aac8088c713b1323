# SPDX-License-Identifier: Apache-2.0
"""What a VM's row says of its use as one of a deployment: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from volant.contract.agent import AgentState
from volant.volantd.deployments.planning import Condition
from volant.volantd.deployments.record import Template
from volant.volantd.network.types import PortProtocol
from volant.volantd.vms.endings import SWITCHED_OFF
from volant.volantd.vms.networking import ON_BRIDGE, sleeps_when_idle
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.restart_policy import read_policy
from volant.volantd.vms.states import WITH_PROCESS, VmState

Target = tuple[str, int]
_DOWN = frozenset({"waiting", "starting", "backoff", "failed"})


def find_condition(record: VmRecord, template: Template) -> Condition:
    """`template`: what it was made of, which says what becomes of it when it has ended."""
    match record.state:
        case VmState.CREATED:
            return Condition.CUT_OFF
        case VmState.RUNNING:
            return _find_health(record)
        case VmState.STARTING:
            return Condition.COMING
        case VmState.SUSPENDED:
            # Whoever connects to it wakes it.
            return Condition.READY if sleeps_when_idle(record) else Condition.HELD
        case VmState.PAUSED | VmState.STOPPING:
            return Condition.HELD
        case VmState.STOPPED | VmState.FAILED if record.wanted:
            return Condition.COMING
    return _find_end(record, template)


def _find_end(record: VmRecord, template: Template) -> Condition:
    """Of one that its own restart policy does not bring back."""
    is_failure = record.state is VmState.FAILED
    if not is_failure and record.reason != SWITCHED_OFF:
        return Condition.HELD
    if template.replaces_always:
        return Condition.DEAD
    policy = read_policy(template.vm.restart)
    is_over = policy.kind == "no" or (policy.kind == "on-failure" and not is_failure)
    return Condition.ENDED if is_over else Condition.DEAD


def _find_health(record: VmRecord) -> Condition:
    """Ready is a workload that may be sent work: healthy, or up where nothing checks it."""
    if record.has_own_system:
        return Condition.READY
    guest = record.guest
    if guest is None or record.exit_code is not None:
        return Condition.COMING
    if guest.health == "healthy" or (guest.health == "unknown" and not guest.checks and _is_up(guest)):
        return Condition.READY
    return Condition.AILING if guest.health == "unhealthy" and _is_up(guest) else Condition.COMING


def _is_up(guest: AgentState) -> bool:
    return guest.phase == "running" and all(process.state not in _DOWN for process in guest.processes)


def find_serving(conditions: Mapping[str, Condition], proven: Collection[str]) -> set[str]:
    """Ids of those that work is sent to: all that are ready. Where none is, those that are up with failing checks, and
    of these rather the `proven`, which were ready once: on a busy host all checks fail at once, and late answers are
    better than none."""
    ready = {vm_id for vm_id, condition in conditions.items() if condition is Condition.READY}
    ailing = {vm_id for vm_id, condition in conditions.items() if condition is Condition.AILING}
    return ready or ailing.intersection(proven) or ailing


def describe_condition(record: VmRecord, condition: Condition) -> str:
    """Why it is not ready, or empty."""
    match condition:
        case Condition.READY | Condition.CUT_OFF:
            return ""
        case Condition.HELD:
            return _describe_hold(record)
        case Condition.COMING | Condition.AILING if record.state in WITH_PROCESS and record.guest is not None:
            return record.guest.health_reason or record.guest.reason
    return record.reason


def _describe_hold(record: VmRecord) -> str:
    if record.state is VmState.STOPPED:
        return f"is stopped: {record.reason}" if record.reason else "was stopped by hand"
    return "is being stopped" if record.state is VmState.STOPPING else f"is {record.state.value}"


def find_target(record: VmRecord, guest_port: int, protocol: PortProtocol) -> Target | None:
    """Where the host reaches a port of the guest, or None."""
    if record.address is not None and record.definition.network in ON_BRIDGE:
        return record.address, guest_port
    found = (
        (port.host_ip, port.host_port)
        for port in record.ports
        if (port.guest_port, port.protocol) == (guest_port, protocol)
    )
    return next(found, None)
