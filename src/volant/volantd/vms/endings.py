# SPDX-License-Identifier: Apache-2.0
"""What the end of a VM's process means for the VM: pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from volant.volantd.hypervisors.base import EndKind, MachineEnd
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.restart_policy import read_policy
from volant.volantd.vms.states import VmState

# An agent gives a boot up that went wrong by chance (kestrel's boot/timer.go); so often by chance is none.
MOST_BOOTS = 5
SWITCHED_OFF = "the guest switched itself off"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`wanted` None leaves it as it is; `starts_again`: the guest asked for a reset, for the how-manieth time in a row
    before it ran (`restarts`); `by_itself`: nobody asked for this end, and the workload had run: what the restart
    policy is for."""

    state: VmState
    reason: str
    wanted: bool | None = False
    starts_again: bool = False
    restarts: int = 0
    by_itself: bool = False


def find_outcome(
    state: VmState, end: MachineEnd, *, kill_reason: str, is_host_stopping: bool, again: int = 1
) -> Outcome:
    """`kill_reason` says why an orderly stop was given up, or is empty; `again` is the next start's number in a row."""
    if end.kind is EndKind.CRASHED and is_host_stopping:
        # It runs again with the host: it is still wanted.
        return Outcome(VmState.STOPPED, "the host was shut down", wanted=None)
    if end.kind is EndKind.KILLED:
        return Outcome(VmState.STOPPED, kill_reason)
    if state is VmState.STOPPING:
        return Outcome(VmState.STOPPED, "")
    if state is VmState.RUNNING and end.kind in (EndKind.POWERED_OFF, EndKind.REBOOTED):
        # A hypervisor that resets in place would boot without this start's guest.json and initrd.
        again = end.kind is EndKind.REBOOTED
        return Outcome(VmState.STOPPED, SWITCHED_OFF, starts_again=again, by_itself=not again)
    if state is VmState.STARTING and end.kind is EndKind.REBOOTED and again <= MOST_BOOTS:
        return Outcome(VmState.STOPPED, "it wants to boot again", starts_again=True, restarts=again)
    happened = "was reset" if end.kind is EndKind.REBOOTED else "switched itself off"
    reason = end.reason or f"the guest {happened} before its workload ran"
    if end.host_disk_full:
        reason = f"the host's disk is full: {reason}"
    return Outcome(VmState.FAILED, reason, by_itself=state in (VmState.RUNNING, VmState.PAUSED))


def find_restarts(record: VmRecord, outcome: Outcome, *, is_stable: bool) -> int | None:
    """How many restarts in a row there were, where the policy wants another one; else None. `is_stable`: it ran for so
    long that those before do not count."""
    restarts = 0 if is_stable else record.restarts
    policy = read_policy(record.definition.restart)
    has_failed = outcome.state is VmState.FAILED or (record.definition.retries and bool(record.exit_code))
    wants = policy.wants(is_failure=has_failed, restarts=restarts)
    # One that has run before is worth another try, too, where it does not get that far this time.
    counts = outcome.by_itself or (outcome.state is VmState.FAILED and record.restarts > 0)
    return restarts if counts and wants else None
