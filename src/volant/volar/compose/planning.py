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
    DEPLOY = "deploy"
    SCALE = "scale"
    UPDATE = "update"
    UNDEPLOY = "undeploy"


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
    deployment: str = ""


@dataclass(frozen=True, slots=True)
class WantedDeployment:
    name: str
    service: str
    digest: str
    replicas: int


@dataclass(frozen=True, slots=True)
class FoundDeployment:
    name: str
    service: str
    digest: str
    replicas: int
    status: str


@dataclass(frozen=True, slots=True)
class Step:
    """`name`: of a VM, or of a deployment where one is deployed, scaled, updated, undeployed or kept with its VMs."""

    act: Act
    name: str
    service: str


def plan_up(
    wanted: Sequence[WantedVm], found: Sequence[FoundVm], *, known: Iterable[str] = (), force_recreate: bool = False,
    remove_orphans: bool = False,
) -> list[Step]:  # fmt: skip
    """One step for each VM that is no deployment's. `known`: all services of the files; a VM of another is an orphan
    and stays unless told.

    A VM of a wanted service that there are too many of is removed.
    """
    found = [vm for vm in found if not vm.deployment]
    there = {vm.name: vm for vm in found}
    steps = [_plan_one(each, there.get(each.name), force_recreate) for each in wanted]
    names, services = {each.name for each in wanted}, {each.service for each in wanted}
    orphans = {vm.service for vm in found} - set(known) - services
    for vm in found:
        if vm.name not in names and (vm.service in services or (remove_orphans and vm.service in orphans)):
            steps.append(Step(Act.REMOVE, vm.name, vm.service))
    return steps


def plan_deployments(
    wanted: Sequence[WantedDeployment], found: Sequence[FoundDeployment], vms: Sequence[FoundVm], *,
    known: Iterable[str] = (), single: Iterable[str] = (), force_recreate: bool = False,
    remove_orphans: bool = False,
) -> list[Step]:  # fmt: skip
    """What the daemon is to be asked for. `single`: wanted services whose VM is one by itself: so it was not before.

    A service's own VMs, from before it had replicas, go first: they have its ports.
    """
    there = {each.name: each for each in found}
    services = {each.service for each in wanted}
    steps = [
        Step(Act.REMOVE, vm.name, vm.service) for vm in vms if not vm.deployment and vm.service in services
    ]
    gone = set(single) | ({each.service for each in found} - set(known) if remove_orphans else set())
    steps += [
        Step(Act.UNDEPLOY, each.name, each.service)
        for each in found
        if each.service in gone or (each.service in services and each.status == "deleting")
    ]
    for each in wanted:
        act = _plan_deployment(each, there.get(each.name), force_recreate)
        steps.append(Step(act, each.name, each.service))
        if act is not Act.UPDATE:
            steps += [
                Step(Act.START, vm.name, vm.service)
                for vm in vms
                if vm.deployment == each.name and vm.status in ("stopped", "suspended")
            ]
    return steps


def _plan_deployment(wanted: WantedDeployment, found: FoundDeployment | None, force_recreate: bool) -> Act:
    if found is None or found.status == "deleting":
        return Act.DEPLOY
    if force_recreate or found.digest != wanted.digest or found.status == "rolled-back":
        return Act.UPDATE
    return Act.KEEP if found.replicas == wanted.replicas else Act.SCALE


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


def find_orphans(found: Iterable[FoundVm | FoundDeployment], known: Iterable[str]) -> list[str]:
    return sorted({each.name for each in found if each.service not in set(known)})


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
