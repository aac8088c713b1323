# SPDX-License-Identifier: Apache-2.0
"""What is to be done about a deployment: a pure function of what is wanted and of what was seen.

It looks at how things are and never at how they came about, so it may be asked again at any time, after a kill of the
daemon too: what is under way already is seen as such. Nothing here waits, and nothing is remembered.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from volant.volantd.vms.restart_policy import find_delay_seconds

# Of one replica in a row, before somebody has to look at it.
MOST_REPLACEMENTS = 10
# How long one has to be ready until its failures before do not count any more.
STABLE_SECONDS = 60.0
# VMs that are made at the same time: a host that boots a hundred at once gets none of them up in time.
CREATED_AT_ONCE = 8


class Condition(enum.Enum):
    """How far a VM is, from what becomes of it by itself.

    `COMING` is on its way, `READY` answers, `AILING` is up and fails its checks, `HELD` was stopped, paused or
    suspended by a person, `ENDED` has ended and is to stay so, `DEAD` will not come back by itself, `CUT_OFF` was never
    started.
    """

    COMING = enum.auto()
    READY = enum.auto()
    AILING = enum.auto()
    HELD = enum.auto()
    ENDED = enum.auto()
    DEAD = enum.auto()
    CUT_OFF = enum.auto()


# Nothing more becomes of them by itself.
AT_REST = frozenset({Condition.READY, Condition.HELD, Condition.ENDED})
# Somebody may be served by them.
UP = frozenset({Condition.READY, Condition.AILING})


@dataclass(frozen=True, slots=True)
class Replica:
    """`seconds`: how long it has been in its condition, as far as anybody saw. `number`: that in its name."""

    id: str
    name: str
    number: int
    condition: Condition
    is_current: bool = True
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """`busy`: ids of VMs that something is being done to; `making`: names of those that are being made, and whether to
    the revision that counts. `failed`: of names whose making failed, how many seconds ago. `taken`: names that some VM
    has. `waited_seconds`: for how long no new VM became ready that was to; None: none is to.
    """

    name: str
    wanted: int
    max_unavailable: int = 0
    max_surge: int = 1
    healthy_seconds: float = 120.0
    replicas: tuple[Replica, ...] = ()
    leaving: Collection[str] = ()
    busy: Collection[str] = ()
    making: Mapping[str, bool] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, float] = field(default_factory=dict)
    taken: Collection[str] = ()
    can_roll_back: bool = False
    is_settled: bool = False
    is_deleting: bool = False
    waited_seconds: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    name: str


@dataclass(frozen=True, slots=True)
class Leave:
    """From now on it is on its way out; `failures` is what is remembered of its name, where it is replaced."""

    vm_id: str
    name: str
    failures: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Drain, stop and delete one that is on its way out."""

    vm_id: str


@dataclass(frozen=True, slots=True)
class Forgive:
    name: str


@dataclass(frozen=True, slots=True)
class Settle:
    """What was asked for last has been reached, as far as it can be."""


@dataclass(frozen=True, slots=True)
class RollBack:
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left of a deployment that is being deleted."""


Act = Create | Leave | Remove | Forgive | Settle | RollBack | Finish


@dataclass(frozen=True, slots=True)
class Plan:
    """`again_in_seconds`: when time alone may change something; `reason` is what people are told."""

    acts: tuple[Act, ...] = ()
    again_in_seconds: float | None = None
    reason: str = ""


def make_plan(seen: Situation) -> Plan:
    """Acts of one step; each changes what is seen next."""
    leaving = [replica for replica in seen.replicas if replica.id in seen.leaving]
    removals: list[Act] = [Remove(replica.id) for replica in leaving if replica.id not in seen.busy]
    if seen.is_deleting:
        staying = [replica for replica in seen.replicas if replica.id not in seen.leaving]
        acts = [*removals, *(Leave(each.id, each.name) for each in staying if each.id not in seen.busy)]
        is_gone = not seen.replicas and not seen.making
        return Plan(tuple(acts or ([Finish()] if is_gone else [])), reason="it is being deleted")
    return _Planner(seen, removals).plan()


class _Planner:
    """One look at a deployment that is to stay."""

    def __init__(self, seen: Situation, acts: list[Act]) -> None:
        self._seen = seen
        self._acts = acts
        self._times: list[float] = []
        self._reasons: list[str] = []
        self._staying = [replica for replica in seen.replicas if replica.id not in seen.leaving]
        self._given_up: set[str] = set()

    def plan(self) -> Plan:
        if (reason := self._find_rollback()) is not None:
            return Plan((RollBack(reason),))
        self._replace_dead()
        self._forgive()
        self._remove_superfluous()
        self._create_missing()
        if self._is_settled():
            if not self._seen.is_settled:
                self._acts.append(Settle())
        elif not self._reasons:
            self._reasons += [
                f"{each.name}: {each.reason}"
                for each in self._staying
                if each.condition in (Condition.COMING, Condition.AILING) and each.reason
            ]
        self._reasons += [self._seen.problem] if self._seen.problem else []
        times = [seconds for seconds in self._times if seconds > 0]
        return Plan(tuple(self._acts), min(times, default=None), "; ".join(self._reasons))

    def _is_outdated(self) -> bool:
        return any(not replica.is_current for replica in self._seen.replicas)

    def _find_rollback(self) -> str | None:
        """Why the update is undone, where it is."""
        seen = self._seen
        if not seen.can_roll_back:
            return None
        current = [replica for replica in self._staying if replica.is_current]
        for replica in current:
            if replica.condition is Condition.DEAD and self._has_given_up(replica.name):
                return f"{replica.name} failed again and again: {replica.reason}"
        if seen.waited_seconds is None:
            return None
        if seen.waited_seconds < seen.healthy_seconds:
            self._times.append(seen.healthy_seconds - seen.waited_seconds)
            return None
        late = [replica for replica in current if replica.condition is not Condition.READY]
        said = next((f"{each.name}: {each.reason}" for each in late if each.reason), seen.problem)
        what = f"no new VM became healthy within {seen.healthy_seconds:g} s"
        return f"{what}: {said}" if said else what

    def _has_given_up(self, name: str) -> bool:
        return self._seen.failures.get(name, 0) >= MOST_REPLACEMENTS

    def _replace_dead(self) -> None:
        for replica in list(self._staying):
            if replica.id in self._seen.busy:
                continue
            if replica.condition is Condition.CUT_OFF:
                self._let_go(replica)
            elif replica.condition is Condition.ENDED and replica.is_current:
                self._reasons.append(f"{replica.name} has ended: {replica.reason}")
            elif replica.condition is Condition.HELD and replica.is_current:
                self._reasons.append(f"{replica.name} {replica.reason}")
            elif replica.condition is Condition.DEAD and replica.is_current:
                self._replace(replica)

    def _replace(self, replica: Replica) -> None:
        failures = self._seen.failures.get(replica.name, 0)
        if self._has_given_up(replica.name):
            self._given_up.add(replica.name)
            self._reasons.append(
                f"{replica.name} failed {failures} times in a row and is not replaced any more: {replica.reason}"
            )
            return
        left = find_delay_seconds(failures) - replica.seconds
        if left > 0:
            self._times.append(left)
            self._reasons.append(
                f"{replica.name} failed and is replaced in {find_delay_seconds(failures):g} s: {replica.reason}"
            )
        else:
            self._let_go(replica, failures + 1)

    def _let_go(self, replica: Replica, failures: int | None = None) -> None:
        self._acts.append(Leave(replica.id, replica.name, failures))
        self._staying.remove(replica)

    def _forgive(self) -> None:
        for replica in self._staying:
            if replica.condition is Condition.READY and replica.name in self._seen.failures:
                if replica.seconds >= STABLE_SECONDS:
                    self._acts.append(Forgive(replica.name))
                else:
                    self._times.append(STABLE_SECONDS - replica.seconds)

    def _remove_superfluous(self) -> None:
        """Of old ones as many as the policy lets go now, of new ones what is more than was asked for."""
        seen = self._seen
        old = [replica for replica in self._staying if not replica.is_current and replica.id not in seen.busy]
        for replica in [each for each in old if each.condition not in UP]:
            self._let_go(replica)
        # An old one that fails its checks goes before the others, and like them not until a new one is there: on a busy
        # host all fail at once. A new one that a person stopped is as it is wanted, and nobody waits for it.
        counted = sum(each.condition in (AT_REST if each.is_current else UP) for each in self._staying)
        spare = counted - max(0, seen.wanted - seen.max_unavailable)
        for replica in _order([each for each in old if each.condition in UP])[: max(0, spare)]:
            self._let_go(replica)
        current = [replica for replica in self._staying if replica.is_current]
        makes = sum(is_current for is_current in seen.making.values())
        extra = len(current) + makes - seen.wanted
        for replica in [each for each in _order(current) if each.id not in seen.busy][: max(0, extra)]:
            self._let_go(replica)

    def _create_missing(self) -> None:
        seen = self._seen
        current = sum(replica.is_current for replica in self._staying)
        makes = sum(is_current for is_current in seen.making.values())
        # Those on their way out count until they are gone: they have memory and names still.
        there = len(seen.replicas) + len(seen.making)
        surge = seen.max_surge if self._is_outdated() else 0
        count = min(seen.wanted - current - makes, seen.wanted + surge - there)
        count = min(count, CREATED_AT_ONCE - len(seen.making))
        number = 0
        while count > 0:
            number += 1
            name = f"{seen.name}-{number}"
            if name in seen.taken or name in seen.making:
                continue
            count -= 1
            self._create(name)

    def _create(self, name: str) -> None:
        failures = self._seen.failures.get(name, 0)
        if name in self._seen.failed:
            if self._has_given_up(name):
                self._given_up.add(name)
                return
            left = find_delay_seconds(failures) - self._seen.failed[name]
            if left > 0:
                self._times.append(left)
                return
        self._acts.append(Create(name))

    def _is_settled(self) -> bool:
        """Nothing more happens by itself."""
        seen = self._seen
        resting = [each for each in self._staying if each.condition in AT_REST or each.name in self._given_up]
        names = {replica.name for replica in self._staying}
        never_made = [name for name in self._given_up if name not in names]
        return (
            not self._is_outdated()
            and not any(isinstance(act, Create | Leave | Remove) for act in self._acts)
            and len(resting) == len(seen.replicas)
            and len(resting) + len(never_made) == seen.wanted
            and not seen.making
        )


def _order(replicas: list[Replica]) -> list[Replica]:
    """In which they go: those first that are of least use, then the highest number."""
    return sorted(
        replicas, key=lambda each: (each.condition is Condition.READY, each.condition in UP, -each.number)
    )
