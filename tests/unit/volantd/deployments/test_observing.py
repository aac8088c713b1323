# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from support.vm_records import make_record
from volant.contract.agent import AgentState, Check, ProcessState
from volant.volantd.deployments.observing import (
    describe_condition,
    find_condition,
    find_serving,
    find_target,
)
from volant.volantd.deployments.planning import Condition
from volant.volantd.deployments.record import Template
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.endings import SWITCHED_OFF
from volant.volantd.vms.states import VmState

REPLACED = Template(vm=NewVm(name="", plugin="web"))


def with_policy(restart: str) -> Template:
    return Template(vm=NewVm(name="", plugin="web", restart=restart), replaces_always=False)


@pytest.mark.parametrize(
    ("state", "wanted", "reason", "condition"),
    [
        (VmState.CREATED, False, "", Condition.CUT_OFF),
        (VmState.STARTING, True, "", Condition.COMING),
        (VmState.RUNNING, True, "", Condition.COMING),
        (VmState.PAUSED, True, "", Condition.HELD),
        (VmState.SUSPENDED, False, "", Condition.HELD),
        (VmState.STOPPING, False, "", Condition.HELD),
        (VmState.STOPPED, False, "", Condition.HELD),
        (VmState.STOPPED, False, "killed: its agent did not answer", Condition.HELD),
        (VmState.STOPPED, True, "the host was restarted", Condition.COMING),
        (VmState.STOPPED, False, SWITCHED_OFF, Condition.DEAD),
        (VmState.FAILED, False, "panic", Condition.DEAD),
        (VmState.FAILED, True, "panic", Condition.COMING),
    ],
)
def test_each_state_of_one_that_is_replaced(
    state: VmState, wanted: bool, reason: str, condition: Condition
) -> None:
    record = replace(make_record(), state=state, wanted=wanted, reason=reason, guest=None)
    assert find_condition(record, REPLACED) is condition


@pytest.mark.parametrize(
    ("restart", "ended_well", "failed"),
    [
        ("no", Condition.ENDED, Condition.ENDED),
        ("on-failure", Condition.ENDED, Condition.DEAD),
        ("on-failure:3", Condition.ENDED, Condition.DEAD),
        ("always", Condition.DEAD, Condition.DEAD),
        ("unless-stopped", Condition.DEAD, Condition.DEAD),
    ],
)
def test_whoever_chose_a_restart_policy_is_asked_what_becomes_of_one_that_ended(
    restart: str, ended_well: Condition, failed: Condition
) -> None:
    off = replace(make_record(), state=VmState.STOPPED, wanted=False, reason=SWITCHED_OFF)
    crashed = replace(make_record(), state=VmState.FAILED, wanted=False, reason="panic")
    assert find_condition(off, with_policy(restart)) is ended_well
    assert find_condition(crashed, with_policy(restart)) is failed


def running(state: str) -> list[ProcessState]:
    return [ProcessState(name="web", state=state)]


@pytest.mark.parametrize(
    ("guest", "condition"),
    [
        (None, Condition.COMING),
        (AgentState(phase="running", health="healthy"), Condition.READY),
        (AgentState(phase="running", health="starting"), Condition.COMING),
        (AgentState(phase="booting", health="unknown"), Condition.COMING),
        (AgentState(phase="running", processes=running("running")), Condition.READY),
        (AgentState(phase="running", processes=running("backoff")), Condition.COMING),
        (
            AgentState(phase="running", checks=[Check(name="web", kind="tcp", state="unknown")]),
            Condition.COMING,
        ),
        (AgentState(phase="running", health="unhealthy"), Condition.AILING),
        (AgentState(phase="running", health="unhealthy", processes=running("running")), Condition.AILING),
        (AgentState(phase="running", health="unhealthy", processes=running("backoff")), Condition.COMING),
        (AgentState(phase="stopping", health="unhealthy"), Condition.COMING),
        (AgentState(phase="failed", health="unhealthy"), Condition.COMING),
    ],
)
def test_one_is_ready_once_it_is_healthy_or_up_where_nothing_checks_it(
    guest: AgentState | None, condition: Condition
) -> None:
    record = replace(make_record(), state=VmState.RUNNING, guest=guest)
    assert find_condition(record, REPLACED) is condition
    ended = replace(record, exit_code=0)
    assert find_condition(ended, REPLACED) is Condition.COMING, "its command has ended"


def test_work_goes_to_those_that_are_ready_and_while_none_is_to_those_that_are_up() -> None:
    ready, ailing, coming = Condition.READY, Condition.AILING, Condition.COMING
    assert find_serving({"a": ready, "b": ailing, "c": ready}, {"b"}) == {"a", "c"}
    assert find_serving({"a": ailing, "b": ailing, "c": coming}, {"a"}) == {"a"}, "b was never ready"
    assert find_serving({"a": ailing, "b": ailing, "c": coming}, {"c"}) == {"a", "b"}
    assert find_serving({"a": coming, "b": Condition.HELD, "c": Condition.DEAD}, {"a"}) == set()


def test_one_that_sleeps_when_it_is_idle_is_woken_by_who_connects() -> None:
    record = make_record()
    definition = record.definition.model_copy(update={"suspend_when_idle_seconds": 60})
    sleeping = replace(record, state=VmState.SUSPENDED, definition=definition)
    assert find_condition(sleeping, REPLACED) is Condition.READY


def test_why_it_is_not_ready() -> None:
    record = replace(make_record(), state=VmState.STOPPED, reason="")
    assert describe_condition(record, Condition.HELD) == "was stopped by hand"
    assert describe_condition(replace(record, reason="restored"), Condition.HELD) == "is stopped: restored"
    assert describe_condition(replace(record, state=VmState.PAUSED), Condition.HELD) == "is paused"
    sick = AgentState(phase="running", health="unhealthy", health_reason="no database")
    assert (
        describe_condition(replace(record, state=VmState.RUNNING, guest=sick), Condition.COMING)
        == "no database"
    )
    assert describe_condition(replace(record, reason="panic"), Condition.DEAD) == "panic"


def test_where_a_port_of_the_guest_is_reached() -> None:
    record = make_record()
    ports = (PublishedPort("127.127.1.1", 8080, 80), PublishedPort("127.0.0.1", 5353, 53, "udp"))
    user = record.definition.model_copy(update={"network": "user"})
    published = replace(record, definition=user, address="127.127.1.1", ports=ports)
    assert find_target(published, 80, "tcp") == ("127.127.1.1", 8080)
    assert find_target(published, 53, "udp") == ("127.0.0.1", 5353)
    assert find_target(published, 53, "tcp") is None
    bridged = record.definition.model_copy(update={"network": "bridged"})
    assert find_target(replace(record, definition=bridged, address="10.1.2.3", ports=()), 443, "tcp") == (
        "10.1.2.3",
        443,
    )
