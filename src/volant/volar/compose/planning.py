# SPDX-License-Identifier: Apache-2.0
"""What has to be done so that a stack is as its files say: pure functions of what is wanted and of what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from volant.errors import InvalidInput, NotFound
from volant.volar.compose.model import Dependency, Service, Stack

RUNS = frozenset({"starting", "running", "paused"})


class Act(StrEnum):
    KEEP = "keep"
    START = "start"
    CREATE = "create"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class WantedVm:
    name: str
    service: str
    digest: str


@dataclass(frozen=True, slots=True)
class FoundVm:
    name: str
    service: str
    digest: str
    status: str


@dataclass(frozen=True, slots=True)
class Step:
    act: Act
    vm: str
    service: str


def plan_up(
    wanted: Sequence[WantedVm], found: Sequence[FoundVm], *, known: Iterable[str] = (), force_recreate: bool = False,
    remove_orphans: bool = False,
) -> list[Step]:  # fmt: skip
    """One step for each VM. `known`: all services of the files; a VM of another is an orphan and stays unless told.

    A VM of a wanted service that there are too many of is removed.
    """
    there = {vm.name: vm for vm in found}
    steps = [_plan_one(each, there.get(each.name), force_recreate) for each in wanted]
    names, services = {each.name for each in wanted}, {each.service for each in wanted}
    orphans = {vm.service for vm in found} - set(known) - services
    for vm in found:
        if vm.name not in names and (vm.service in services or (remove_orphans and vm.service in orphans)):
            steps.append(Step(Act.REMOVE, vm.name, vm.service))
    return steps


def _plan_one(wanted: WantedVm, found: FoundVm | None, force_recreate: bool) -> Step:
    if found is None:
        act = Act.CREATE
    elif force_recreate or found.digest != wanted.digest:
        act = Act.REPLACE
    elif found.status in RUNS:
        act = Act.KEEP
    else:
        act = Act.START
    return Step(act, wanted.name, wanted.service)


def find_orphans(found: Iterable[FoundVm], known: Iterable[str]) -> list[str]:
    return sorted({vm.name for vm in found if vm.service not in set(known)})


def select_services(
    stack: Stack, named: Sequence[str], profiles: Iterable[str], *, alone: bool = False
) -> list[str]:
    """Services to start, each after what it depends on: those named with their dependencies, else all of `profiles`.

    Raises NotFound for a service that is not there, InvalidInput for a cycle.
    """
    active = set(profiles)
    for name in named:
        if name not in stack.services:
            raise NotFound(
                f"cannot find service {name} in the stack",
                resolution=f"it has {', '.join(sorted(stack.services))}",
            )
    chosen = list(named) or [
        name
        for name, service in stack.services.items()
        if not service.profiles or "*" in active or active & set(service.profiles)
    ]
    ordered: list[str] = []
    for name in chosen:
        _visit(stack.services, name, ordered, (), alone and bool(named))
    return ordered


def _visit(
    services: Mapping[str, Service], name: str, ordered: list[str], chain: tuple[str, ...], alone: bool
) -> None:
    if name in chain:
        circle = " → ".join((*chain[chain.index(name) :], name))
        raise InvalidInput(f"cannot order the services: they depend on each other in a circle: {circle}")
    if name in ordered:
        return
    for other, dependency in find_dependencies(services[name]).items():
        if other not in services:
            if dependency.required:
                raise InvalidInput(f"cannot use services.{name}.depends_on: there is no service {other}")
        elif not alone:
            _visit(services, other, ordered, (*chain, name), alone)
    ordered.append(name)


def find_dependencies(service: Service) -> dict[str, Dependency]:
    """Those of `depends_on`, and those that links imply."""
    links = {link.partition(":")[0]: Dependency() for link in service.links}
    return {**links, **service.depends_on}


def check_writers(users: Mapping[str, Sequence[tuple[str, int, bool]]]) -> None:
    """`users`: of a volume, (service, replicas, read only). InvalidInput unless one VM has it, or all only read."""
    for volume, of in users.items():
        writers = [name for name, _, read_only in of if not read_only]
        vms = sum(replicas for _, replicas, _ in of)
        if writers and vms > 1:
            names = " and ".join(dict.fromkeys(name for name, _, _ in of))
            raise InvalidInput(
                f"cannot share volume {volume}: {writers[0]} writes to it, and {vms} VMs ({names}) would have it",
                details="a volume is a disk with a file system on it: one VM writes to it, or many read it with :ro",
                resolution="give each service a volume of its own, or one service that serves the files to the others",
            )
