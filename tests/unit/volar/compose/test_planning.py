# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from volant.errors import InvalidInput, NotFound
from volant.volar.compose.model import Stack
from volant.volar.compose.planning import (
    Act,
    FoundDeployment,
    FoundVm,
    Step,
    WantedDeployment,
    WantedVm,
    check_writers,
    find_orphans,
    plan_deployments,
    plan_up,
    select_services,
)


def make_stack(**services: Any) -> Stack:
    return Stack.model_validate(
        {"services": {name: {"image": "i", **(body or {})} for name, body in services.items()}}
    )


WEB = WantedVm("p-web-1", "web", "d1")


@pytest.mark.parametrize(
    ("found", "act"),
    [
        ([], Act.CREATE),
        ([FoundVm("p-web-1", "web", "d1", "running")], Act.KEEP),
        ([FoundVm("p-web-1", "web", "d1", "starting")], Act.KEEP),
        ([FoundVm("p-web-1", "web", "d1", "paused")], Act.KEEP),
        ([FoundVm("p-web-1", "web", "d1", "created")], Act.START),
        ([FoundVm("p-web-1", "web", "d1", "stopped")], Act.START),
        ([FoundVm("p-web-1", "web", "d1", "failed")], Act.START),
        ([FoundVm("p-web-1", "web", "d1", "suspended")], Act.START),
        ([FoundVm("p-web-1", "web", "d0", "running")], Act.REPLACE),
        ([FoundVm("p-web-1", "web", "", "stopped")], Act.REPLACE),
    ],
)
def test_only_what_differs_is_changed(found: list[FoundVm], act: Act) -> None:
    assert plan_up([WEB], found) == [Step(act, "p-web-1", "web")]


def test_a_vm_may_be_replaced_though_nothing_differs() -> None:
    found = [FoundVm("p-web-1", "web", "d1", "running")]
    assert plan_up([WEB], found, force_recreate=True) == [Step(Act.REPLACE, "p-web-1", "web")]


def test_too_many_go_and_orphans_only_when_told() -> None:
    found = [
        FoundVm("p-web-1", "web", "d1", "running"),
        FoundVm("p-web-2", "web", "d1", "running"),
        FoundVm("p-old-1", "old", "d1", "running"),
        FoundVm("p-later-1", "later", "d1", "running"),
    ]
    keep, extra, orphan = (
        Step(Act.KEEP, "p-web-1", "web"), Step(Act.REMOVE, "p-web-2", "web"), Step(Act.REMOVE, "p-old-1", "old"),
    )  # fmt: skip
    assert plan_up([WEB], found, known=["web", "later"]) == [keep, extra]
    assert plan_up([WEB], found, known=["web", "later"], remove_orphans=True) == [keep, extra, orphan]
    assert find_orphans(found, ["web", "later"]) == ["p-old-1"]


def test_a_plan_that_was_carried_out_has_nothing_left_to_do() -> None:
    """Whatever was there before, and wherever it was interrupted."""
    wanted = [WantedVm(f"p-{name}-{number}", name, f"{name}!") for name in ("a", "b") for number in (1, 2)]
    there = {
        "p-a-1": FoundVm("p-a-1", "a", "old", "running"),
        "p-b-2": FoundVm("p-b-2", "b", "b!", "failed"),
        "p-b-3": FoundVm("p-b-3", "b", "b!", "running"),
    }
    for _ in range(2 * len(wanted) + 1):  # one act a round, as if each was the last before a kill
        steps = [
            step
            for step in plan_up(wanted, list(there.values()), known=["a", "b"])
            if step.act is not Act.KEEP
        ]
        if not steps:
            break
        step = steps[0]
        if step.act in (Act.REMOVE, Act.REPLACE):
            del there[step.name]
        else:
            digest = next(each.digest for each in wanted if each.name == step.name)
            there[step.name] = FoundVm(step.name, step.service, digest, "running")
    assert {step.act for step in plan_up(wanted, list(there.values()), known=["a", "b"])} == {Act.KEEP}
    assert set(there) == {each.name for each in wanted}


API = WantedDeployment("p-api", "api", "d1", 2)
SCALED = FoundDeployment("p-api", "api", "d1", 2, "ready")


@pytest.mark.parametrize(
    ("found", "act"),
    [
        ([], Act.DEPLOY),
        ([SCALED], Act.KEEP),
        ([replace(SCALED, status="progressing")], Act.KEEP),
        ([replace(SCALED, status="degraded")], Act.KEEP),
        ([replace(SCALED, replicas=3)], Act.SCALE),
        ([replace(SCALED, digest="d0", replicas=3)], Act.UPDATE),
        ([replace(SCALED, status="rolled-back")], Act.UPDATE),
    ],
)
def test_a_deployment_is_asked_for_what_differs(found: list[FoundDeployment], act: Act) -> None:
    assert plan_deployments([API], found, []) == [Step(act, "p-api", "api")]
    forced = plan_deployments([API], found, [], force_recreate=True)
    assert [step.act for step in forced] == [Act.UPDATE if found else Act.DEPLOY]


def test_one_that_is_being_deleted_is_made_again() -> None:
    steps = plan_deployments([API], [replace(SCALED, status="deleting")], [])
    assert [step.act for step in steps] == [Act.UNDEPLOY, Act.DEPLOY]


def test_vms_of_a_deployment_that_were_stopped_are_started_unless_they_are_replaced() -> None:
    vms = [
        FoundVm("p-api-1", "api", "d1", "stopped", "p-api"), FoundVm("p-api-2", "api", "d1", "running", "p-api"),
        FoundVm("p-api-3", "api", "d1", "failed", "p-api"),
    ]  # fmt: skip
    keep, update = Step(Act.KEEP, "p-api", "api"), Step(Act.UPDATE, "p-api", "api")
    assert plan_deployments([API], [SCALED], vms) == [keep, Step(Act.START, "p-api-1", "api")]
    assert plan_deployments([API], [replace(SCALED, digest="d0")], vms) == [update]


def test_a_service_becomes_a_deployment_and_one_vm_again() -> None:
    alone = FoundVm("p-api-1", "api", "d1", "running")
    steps = plan_deployments([API], [], [alone])
    assert steps == [Step(Act.REMOVE, "p-api-1", "api"), Step(Act.DEPLOY, "p-api", "api")]
    of_it = FoundVm("p-api-1", "api", "d1", "running", "p-api")
    assert plan_deployments([], [SCALED], [of_it], single=["api"]) == [Step(Act.UNDEPLOY, "p-api", "api")]
    wanted = [WantedVm("p-api-1", "api", "d1")]
    assert plan_up(wanted, [of_it]) == [Step(Act.CREATE, "p-api-1", "api")], "the other one is gone by then"


def test_deployments_of_no_service_go_only_when_told() -> None:
    assert plan_deployments([], [SCALED], [], known=["web"]) == []
    steps = plan_deployments([], [SCALED], [], known=["web"], remove_orphans=True)
    assert steps == [Step(Act.UNDEPLOY, "p-api", "api")]
    assert find_orphans([SCALED], ["web"]) == ["p-api"]


def test_services_come_after_what_they_depend_on() -> None:
    stack = make_stack(
        web={"depends_on": ["app"], "links": ["cache:store"]},
        cache=None,
        app={"depends_on": {"db": {}}},
        db=None,
    )
    assert select_services(stack, [], []) == ["cache", "db", "app", "web"]
    assert select_services(stack, ["app"], []) == ["db", "app"]
    assert select_services(stack, ["app"], [], alone=True) == ["app"]


def test_profiles_choose_and_a_named_service_needs_none() -> None:
    stack = make_stack(web=None, tool={"profiles": ["tools"]}, test={"profiles": ["tests"]})
    assert select_services(stack, [], []) == ["web"]
    assert select_services(stack, [], ["tools"]) == ["web", "tool"]
    assert select_services(stack, [], ["*"]) == ["web", "tool", "test"]
    assert select_services(stack, ["test"], []) == ["test"]


def test_what_cannot_be_ordered_is_told() -> None:
    circle = make_stack(a={"depends_on": ["b"]}, b={"depends_on": ["c"]}, c={"depends_on": ["b"]})
    with pytest.raises(InvalidInput, match="b → c → b"):
        select_services(circle, [], [])
    with pytest.raises(InvalidInput, match="no service gone"):
        select_services(make_stack(a={"depends_on": ["gone"]}), [], [])
    with pytest.raises(NotFound, match="other"):
        select_services(make_stack(a=None), ["other"], [])
    optional = make_stack(a={"depends_on": {"gone": {"condition": "service_started", "required": False}}})
    assert select_services(optional, [], []) == ["a"]


def test_one_writes_or_many_read() -> None:
    check_writers({"v": [("a", 1, False)]})
    check_writers({"v": [("a", 3, True), ("b", 1, True)]})
    for users in ([("a", 1, False), ("b", 1, True)], [("a", 2, False)], [("a", 1, False), ("b", 1, False)]):
        with pytest.raises(InvalidInput, match="volume v: a writes"):
            check_writers({"v": users})
