# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import pytest

from support.vm_records import make_record
from volant.volantd.hypervisors.base import EndKind, MachineEnd
from volant.volantd.vms.endings import MOST_BOOTS, Outcome, find_outcome, find_restarts
from volant.volantd.vms.states import VmState

OFF = "the guest switched itself off"


@pytest.mark.parametrize(
    ("state", "end", "expected"),
    [
        (VmState.STOPPING, MachineEnd(EndKind.POWERED_OFF), Outcome(VmState.STOPPED, "")),
        (VmState.STOPPING, MachineEnd(EndKind.REBOOTED), Outcome(VmState.STOPPED, "")),
        (VmState.STOPPING, MachineEnd(EndKind.CRASHED, "SIGKILL"), Outcome(VmState.STOPPED, "")),
        (VmState.STARTING, MachineEnd(EndKind.KILLED), Outcome(VmState.STOPPED, "asked")),
        (VmState.RUNNING, MachineEnd(EndKind.POWERED_OFF), Outcome(VmState.STOPPED, OFF, by_itself=True)),
        (VmState.RUNNING, MachineEnd(EndKind.REBOOTED), Outcome(VmState.STOPPED, OFF, starts_again=True)),
        (
            VmState.STARTING,
            MachineEnd(EndKind.REBOOTED),
            Outcome(VmState.STOPPED, "it wants to boot again", starts_again=True, restarts=1),
        ),
        (VmState.STARTING, MachineEnd(EndKind.POWERED_OFF), Outcome(VmState.FAILED, f"{OFF} before its workload ran")),
        (VmState.RUNNING, MachineEnd(EndKind.CRASHED, "panic"), Outcome(VmState.FAILED, "panic", by_itself=True)),
        (
            VmState.RUNNING,
            MachineEnd(EndKind.CRASHED, "SIGBUS", host_disk_full=True),
            Outcome(VmState.FAILED, "the host's disk is full: SIGBUS", by_itself=True),
        ),
    ],
)  # fmt: skip
def test_what_an_end_means(state: VmState, end: MachineEnd, expected: Outcome) -> None:
    assert find_outcome(state, end, kill_reason="asked", is_host_stopping=False) == expected


def test_one_that_never_gets_beyond_its_boot_is_given_up() -> None:
    def end(again: int) -> Outcome:
        rebooted = MachineEnd(EndKind.REBOOTED)
        return find_outcome(VmState.STARTING, rebooted, kill_reason="", is_host_stopping=False, again=again)

    assert (end(MOST_BOOTS).starts_again, end(MOST_BOOTS).restarts) == (True, MOST_BOOTS)
    given_up = Outcome(VmState.FAILED, "the guest was reset before its workload ran")
    assert end(MOST_BOOTS + 1) == given_up


def test_a_host_that_goes_down_has_not_crashed_its_vms() -> None:
    end = MachineEnd(EndKind.CRASHED, "SIGTERM")
    outcome = find_outcome(VmState.RUNNING, end, kill_reason="", is_host_stopping=True)
    assert (outcome.state, outcome.wanted) == (VmState.STOPPED, None)


@pytest.mark.parametrize(
    ("policy", "retries", "exit_code", "is_tried_again"),
    [
        ("on-failure", True, 3, True),
        ("on-failure:2", True, 3, True),
        ("on-failure:1", True, 3, False),
        ("on-failure", True, 0, False),
        ("on-failure", False, 3, False),
        ("no", True, 3, False),
        ("always", False, 0, True),
    ],
)
def test_a_command_that_failed_is_tried_again_where_somebody_asked_for_that(
    policy: str, retries: bool, exit_code: int, is_tried_again: bool
) -> None:
    record = make_record(restart=policy, retries=retries, run_once=True)
    record = dataclasses.replace(record, state=VmState.RUNNING, exit_code=exit_code, restarts=1)
    outcome = find_outcome(
        record.state, MachineEnd(EndKind.POWERED_OFF), kill_reason="", is_host_stopping=False
    )
    assert (find_restarts(record, outcome, is_stable=False) is not None) is is_tried_again
