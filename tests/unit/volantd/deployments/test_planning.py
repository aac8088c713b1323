# SPDX-License-Identifier: Apache-2.0
"""The plan as a function: single looks, and whole worlds that are played to their end from any state."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from volant.volantd.deployments.planning import (
    CREATED_AT_ONCE,
    MOST_REPLACEMENTS,
    STABLE_SECONDS,
    Condition,
    Create,
    Finish,
    Forgive,
    Leave,
    Plan,
    Remove,
    Replica,
    RollBack,
    Settle,
    Situation,
    make_plan,
)
from volant.volantd.vms.restart_policy import find_delay_seconds


def vm(number: int, condition: Condition = Condition.READY, **facts: object) -> Replica:
    return Replica(f"id{number}", f"web-{number}", number, condition, **facts)  # type: ignore[arg-type]


def see(wanted: int, *replicas: Replica, **facts: object) -> Situation:
    taken = {replica.name for replica in replicas}
    return Situation(name="web", wanted=wanted, replicas=replicas, **{"taken": taken, **facts})  # type: ignore[arg-type]


def test_missing_vms_are_made_under_the_lowest_names_that_are_free() -> None:
    assert make_plan(see(3)).acts == (Create("web-1"), Create("web-2"), Create("web-3"))
    assert make_plan(see(3, vm(2), taken={"web-2", "web-1"})).acts == (Create("web-3"), Create("web-4"))
    assert make_plan(see(2, making={"web-1": True})).acts == (Create("web-2"),)
    assert len(make_plan(see(50)).acts) == CREATED_AT_ONCE


def test_what_is_as_it_should_be_is_settled_once() -> None:
    assert make_plan(see(2, vm(1), vm(2))) == Plan((Settle(),))
    assert make_plan(see(2, vm(1), vm(2), is_settled=True)) == Plan()
    assert make_plan(see(0)) == Plan((Settle(),))
    assert make_plan(see(2, vm(1), vm(2, Condition.COMING, reason="boots"))) == Plan(reason="web-2: boots")


def test_fewer_are_wanted_and_those_of_least_use_go_first() -> None:
    ready, coming, held = vm(1), vm(2, Condition.COMING), vm(3, Condition.HELD, reason="was stopped by hand")
    assert Leave("id2", "web-2") in make_plan(see(2, ready, coming, vm(3), is_settled=True)).acts
    assert make_plan(see(1, ready, vm(2), vm(3))).acts == (Leave("id3", "web-3"), Leave("id2", "web-2"))
    assert make_plan(see(1, ready, held)).acts == (Leave("id3", "web-3"),)
    assert make_plan(see(0, ready)).acts == (Leave("id1", "web-1"),)


def test_what_is_on_its_way_out_is_removed_once_and_counts_until_it_is_gone() -> None:
    assert make_plan(see(1, vm(1), vm(2), leaving=["id2"])).acts == (Remove("id2"),)
    assert make_plan(see(1, vm(1), vm(2), leaving=["id2"], busy=["id2"])).acts == ()
    assert make_plan(see(2, vm(1), vm(2), leaving=["id2"], busy=["id2"])).acts == ()
    assert make_plan(see(2, vm(1))).acts == (Create("web-2"),)


def test_one_stopped_by_hand_stays_and_is_told() -> None:
    plan = make_plan(see(2, vm(1), vm(2, Condition.HELD, reason="was stopped by hand"), is_settled=True))
    assert plan == Plan(reason="web-2 was stopped by hand")
    ended = vm(2, Condition.ENDED, reason="the guest switched itself off")
    assert make_plan(see(2, vm(1), ended)).acts == (Settle(),)


def test_one_that_was_never_started_is_made_anew_and_has_not_failed() -> None:
    assert make_plan(see(1, vm(1, Condition.CUT_OFF))).acts == (Leave("id1", "web-1"),)
    assert make_plan(see(1, vm(1, Condition.CUT_OFF), busy=["id1"])).acts == ()


@pytest.mark.parametrize("failures", range(MOST_REPLACEMENTS))
def test_a_failed_one_is_replaced_after_a_time_that_grows(failures: int) -> None:
    delay = find_delay_seconds(failures)
    facts = {"failures": {"web-1": failures}, "is_settled": True}
    early = make_plan(see(1, vm(1, Condition.DEAD, seconds=delay - 0.5, reason="panic"), **facts))
    assert (early.acts, early.again_in_seconds) == ((), 0.5)
    assert early.reason == f"web-1 failed and is replaced in {delay:g} s: panic"
    late = make_plan(see(1, vm(1, Condition.DEAD, seconds=delay), **facts))
    assert late.acts == (Leave("id1", "web-1", failures + 1),)


def test_one_that_fails_again_and_again_is_left_for_people_to_look_at() -> None:
    dead = vm(1, Condition.DEAD, seconds=1e6, reason="panic")
    plan = make_plan(see(2, dead, vm(2), failures={"web-1": MOST_REPLACEMENTS}))
    assert plan.acts == (Settle(),)
    assert plan.reason == "web-1 failed 10 times in a row and is not replaced any more: panic"
    assert plan.again_in_seconds is None


def test_failures_are_forgotten_once_it_was_ready_for_a_while() -> None:
    facts = {"failures": {"web-1": 4}, "is_settled": True}
    assert make_plan(see(1, vm(1, seconds=STABLE_SECONDS), **facts)).acts == (Forgive("web-1"),)
    plan = make_plan(see(1, vm(1, seconds=STABLE_SECONDS - 9), **facts))
    assert (plan.acts, plan.again_in_seconds) == ((), 9)


def test_a_vm_that_cannot_be_made_is_tried_again_ever_later() -> None:
    facts = {"failures": {"web-1": 2}, "problem": "cannot create it"}
    plan = make_plan(see(1, failed={"web-1": 1.0}, **facts))
    assert (plan.acts, plan.again_in_seconds, plan.reason) == ((), 3.0, "cannot create it")
    assert make_plan(see(1, failed={"web-1": 4.0}, **facts)).acts == (Create("web-1"),)
    given_up = see(
        1, failed={"web-1": 1e6}, failures={"web-1": MOST_REPLACEMENTS}, problem="cannot create it"
    )
    assert make_plan(given_up).acts == (Settle(),)


def test_an_update_makes_a_new_one_before_an_old_one_goes() -> None:
    old = [vm(1, is_current=False), vm(2, is_current=False)]
    assert make_plan(see(2, *old)).acts == (Create("web-3"),)
    assert make_plan(see(2, *old, vm(3, Condition.COMING))).acts == ()
    assert make_plan(see(2, *old, vm(3))).acts == (Leave("id2", "web-2"),)
    assert make_plan(see(2, *old, vm(3), leaving=["id2"])).acts == (Remove("id2"),)
    assert make_plan(see(2, old[0], vm(3))).acts == (Create("web-2"),)
    assert make_plan(see(2, old[0], vm(2), vm(3))).acts == (Leave("id1", "web-1"),)


def test_without_a_surge_an_old_one_makes_room_first() -> None:
    facts = {"max_unavailable": 1, "max_surge": 0}
    old = vm(1, is_current=False)
    assert make_plan(see(1, old, **facts)).acts == (Leave("id1", "web-1"),)
    assert make_plan(see(1, old, leaving=["id1"], busy=["id1"], **facts)).acts == ()
    assert make_plan(see(1, **facts)).acts == (Create("web-1"),)


def test_old_ones_that_are_of_no_use_go_at_once() -> None:
    old = [vm(1, is_current=False), vm(2, Condition.HELD, is_current=False)]
    assert Leave("id2", "web-2") in make_plan(see(2, *old)).acts
    dead = vm(1, Condition.DEAD, is_current=False)
    assert make_plan(see(1, dead, failures={"web-1": MOST_REPLACEMENTS})).acts[0] == Leave("id1", "web-1")


def test_old_ones_that_fail_their_checks_stay_until_a_new_one_is_there_and_go_first() -> None:
    """A busy host makes all of them fail at once: without them nobody would be served."""
    ailing = [vm(number, Condition.AILING, is_current=False) for number in (1, 2, 3)]
    assert make_plan(see(3, *ailing)).acts == (Create("web-4"),)
    assert make_plan(see(3, *ailing, vm(4, Condition.COMING))).acts == ()
    assert make_plan(see(3, *ailing, vm(4, Condition.AILING))).acts == ()
    assert make_plan(see(3, *ailing, vm(4))).acts == (Leave("id3", "web-3"),)
    mixed = [vm(1, Condition.AILING, is_current=False), vm(2, is_current=False)]
    assert make_plan(see(2, *mixed, vm(3))).acts == (Leave("id1", "web-1"),)
    facts = {"max_unavailable": 1, "max_surge": 0}
    assert make_plan(see(2, *mixed, **facts)).acts == (Leave("id1", "web-1"),)


def test_an_update_that_does_not_become_healthy_in_time_is_undone() -> None:
    old, late = vm(1, is_current=False), vm(2, Condition.COMING, reason="no route to the database")
    facts = {"can_roll_back": True, "healthy_seconds": 60.0}
    begun = make_plan(see(1, old, late, waited_seconds=0.0, **facts))
    assert (begun.acts, begun.again_in_seconds) == ((), 60.0), "nothing else may ever wake whoever looks"
    waiting = make_plan(see(1, old, late, waited_seconds=50.0, **facts))
    assert (waiting.acts, waiting.again_in_seconds) == ((), 10.0)
    (act,) = make_plan(see(1, old, late, waited_seconds=60.0, **facts)).acts
    assert act == RollBack("no new VM became healthy within 60 s: web-2: no route to the database")
    assert make_plan(see(1, old, late, waited_seconds=1e6)).acts == (), "there is nothing to go back to"
    failed = vm(2, Condition.DEAD, reason="panic")
    (act,) = make_plan(see(1, old, failed, failures={"web-2": MOST_REPLACEMENTS}, **facts)).acts
    assert act == RollBack("web-2 failed again and again: panic")


def test_a_deletion_takes_everything_and_then_itself() -> None:
    plan = make_plan(see(3, vm(1), vm(2, Condition.DEAD), is_deleting=True))
    assert plan.acts == (Leave("id1", "web-1"), Leave("id2", "web-2"))
    assert make_plan(see(3, vm(1), leaving=["id1"], is_deleting=True)).acts == (Remove("id1"),)
    assert make_plan(see(3, vm(1), leaving=["id1"], busy=["id1"], is_deleting=True)).acts == ()
    assert make_plan(see(3, making={"web-1": True}, is_deleting=True)).acts == ()
    assert make_plan(see(3, is_deleting=True)).acts == (Finish(),)


@dataclass
class World:
    """VMs that do what they are told, in any order: acts take their time, and a new VM becomes what `grow` says."""

    seen: Situation
    random: random.Random
    grow: Callable[[Replica], Replica] = lambda replica: replace(replica, condition=Condition.READY)
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))
    least_ready: int = 0
    most: int = 0

    def step(self) -> bool:
        """One look, or one thing that was begun comes to its end. Whether anything is left to happen."""
        plan = make_plan(self.seen)
        for act in plan.acts:
            self.do(act)
        begun = [*self.seen.making, *self.seen.busy, *self.coming()]
        if not plan.acts and not begun:
            return False
        if begun and (not plan.acts or self.random.random() < 0.5):
            self.finish(self.random.choice(begun))
        ready = sum(
            each.condition is Condition.READY and each.id not in self.seen.leaving
            for each in self.seen.replicas
        )
        self.least_ready = min(self.least_ready, ready)
        self.most = max(self.most, len(self.seen.replicas) + len(self.seen.making))
        return True

    def coming(self) -> list[str]:
        return [
            each.id
            for each in self.seen.replicas
            if each.condition is Condition.COMING
            and self.grow(each) != each
            and each.id not in self.seen.leaving
        ]

    def do(self, act: object) -> None:
        seen = self.seen
        match act:
            case Create(name):
                assert name not in seen.taken
                self.seen = replace(seen, making={**seen.making, name: True}, taken={*seen.taken, name})
            case Leave(vm_id, name, failures):
                assert vm_id not in seen.leaving
                counted = seen.failures if failures is None else {**seen.failures, name: failures}
                self.seen = replace(seen, leaving=[*seen.leaving, vm_id], failures=counted)
            case Remove(vm_id):
                assert vm_id in seen.leaving
                assert vm_id not in seen.busy
                self.seen = replace(seen, busy={*seen.busy, vm_id})
            case Settle():
                self.seen = replace(seen, is_settled=True, can_roll_back=False)
            case Forgive(name):
                self.seen = replace(seen, failures={k: v for k, v in seen.failures.items() if k != name})

    def finish(self, what: str) -> None:
        seen = self.seen
        if what in seen.making:
            number = int(what.rpartition("-")[2])
            new = Replica(f"id{next(self.ids)}", what, number, Condition.COMING)
            making = {name: current for name, current in seen.making.items() if name != what}
            self.seen = replace(seen, making=making, replicas=(*seen.replicas, new))
        elif what in seen.busy:
            gone = next(each for each in seen.replicas if each.id == what)
            self.seen = replace(
                seen,
                replicas=tuple(each for each in seen.replicas if each.id != what),
                busy={each for each in seen.busy if each != what},
                leaving=[each for each in seen.leaving if each != what],
                taken={name for name in seen.taken if name != gone.name},
            )
        else:
            self.seen = replace(
                seen, replicas=tuple(self.grow(each) if each.id == what else each for each in seen.replicas)
            )


def play(world: World) -> Situation:
    for _ in range(2000):
        if not world.step():
            return world.seen
    raise AssertionError(f"it never comes to rest: {world.seen}")


STATES = [
    Condition.READY,
    Condition.COMING,
    Condition.HELD,
    Condition.CUT_OFF,
    Condition.DEAD,
    Condition.ENDED,
]
# Of a new one somebody has to look why.
OLD_STATES = [*STATES, Condition.AILING]


@pytest.mark.parametrize("seed", range(150))
def test_from_any_state_it_comes_to_rest_with_what_was_asked_for(seed: int) -> None:
    """As a daemon finds things that was killed anywhere: any mix of VMs, some of them on their way out already."""
    chance = random.Random(seed)
    replicas = tuple(
        vm(number, chance.choice(STATES if is_current else OLD_STATES), is_current=is_current, seconds=1e6)
        for number in range(1, chance.randrange(1, 7))
        for is_current in (chance.random() < 0.6,)
    )
    surge = chance.randrange(3)
    seen = see(
        chance.randrange(5),
        *replicas,
        leaving=[each.id for each in replicas if chance.random() < 0.2],
        max_surge=surge,
        max_unavailable=chance.randrange(0 if surge else 1, 3),
    )
    end = play(World(seen, chance))
    assert len(end.replicas) == seen.wanted
    assert all(each.is_current for each in end.replicas)
    assert not end.leaving
    assert not end.busy
    assert end.is_settled
    assert len({each.name for each in end.replicas}) == seen.wanted
    held = [each.id for each in replicas if each.condition is Condition.HELD and each.is_current]
    stays = [each for each in end.replicas if each.id in held]
    assert all(each.condition is Condition.HELD for each in stays), "what a person stopped was started"


@pytest.mark.parametrize(
    ("wanted", "surge", "unavailable"),
    [(1, 1, 0), (2, 1, 0), (3, 2, 1), (4, 0, 1), (5, 0, 3), (3, 10, 0), (1, 0, 1)],
)
@pytest.mark.parametrize("seed", range(8))
def test_an_update_keeps_its_bounds_all_the_way(wanted: int, surge: int, unavailable: int, seed: int) -> None:
    old = [vm(number, is_current=False) for number in range(1, wanted + 1)]
    seen = see(wanted, *old, max_surge=surge, max_unavailable=unavailable, can_roll_back=True)
    world = World(seen, random.Random(seed), least_ready=wanted)
    end = play(world)
    assert all(each.is_current and each.condition is Condition.READY for each in end.replicas)
    assert len(end.replicas) == wanted
    assert world.least_ready >= wanted - unavailable
    assert world.most <= wanted + surge


@pytest.mark.parametrize("seed", range(8))
def test_a_version_that_never_becomes_ready_takes_no_more_than_may_be_unavailable(seed: int) -> None:
    old = [vm(number, is_current=False) for number in range(1, 5)]
    seen = see(4, *old, max_surge=1, max_unavailable=1, can_roll_back=True)
    world = World(seen, random.Random(seed), grow=lambda replica: replica, least_ready=4)
    end = play(world)
    assert world.least_ready == 3
    assert world.most <= 5
    assert not end.is_settled
