# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import pytest

from support.vm_records import make_record
from volant.contract.agent import AgentState
from volant.volantd.vms.states import VmState
from volant.volantd.vms.waiting import Condition, is_settled

HEALTHY = AgentState(phase="running", health="healthy")
SICK = AgentState(phase="running", health="unhealthy")


@pytest.mark.parametrize(
    ("condition", "state", "guest", "wanted", "expected"),
    [
        ("running", VmState.STARTING, None, True, False),
        ("running", VmState.RUNNING, SICK, True, True),
        ("healthy", VmState.RUNNING, SICK, True, False),
        ("healthy", VmState.RUNNING, HEALTHY, True, True),
        ("healthy", VmState.STOPPING, HEALTHY, False, False),
        # Nobody starts these again: waiting would be in vain.
        ("healthy", VmState.FAILED, None, False, True),
        ("running", VmState.CREATED, None, False, True),
        # Its policy starts this one again.
        ("healthy", VmState.FAILED, None, True, False),
        ("stopped", VmState.RUNNING, HEALTHY, True, False),
        ("stopped", VmState.FAILED, None, True, True),
    ],
)
def test_when_waiting_ends(
    condition: Condition, state: VmState, guest: AgentState | None, wanted: bool, expected: bool
) -> None:
    record = dataclasses.replace(make_record(), state=state, guest=guest, wanted=wanted)
    assert is_settled(record, condition) is expected
