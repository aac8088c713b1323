# SPDX-License-Identifier: Apache-2.0
"""The stack at the daemon: its VMs and deployments by their labels, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volant.digits import is_whole_number
from volant.volar.client import Client
from volant.volar.compose.networks import PROJECT_LABEL
from volant.volar.compose.planning import FoundDeployment, FoundVm
from volant.volar.compose.requests import DIGEST_LABEL, SERVICE_LABEL

if TYPE_CHECKING:
    from volant.contract.api_types import Deployment, Vm

DEPLOYMENT_LABEL = "volant.deployment"
# Of VMs of `volar compose run`: the service that they are like, and are none of.
ONE_OFF_LABEL = "volant.compose.one-off"


@dataclass(frozen=True, slots=True)
class Unit:
    """What is removed as one: a VM, or a deployment with its VMs."""

    name: str
    is_deployment: bool


def list_vms(client: Client, project: str) -> list[Vm]:
    """Those of its services."""
    return [vm for vm in _list_all(client, project) if ONE_OFF_LABEL not in vm["labels"]]


def list_one_offs(client: Client, project: str) -> list[str]:
    return [vm["name"] for vm in _list_all(client, project) if ONE_OFF_LABEL in vm["labels"]]


def _list_all(client: Client, project: str) -> list[Vm]:
    return client.list_vms(label=[f"{PROJECT_LABEL}={project}"])


def list_own_volumes(client: Client, project: str) -> set[str]:
    """Those that its VMs have since their plugins' manifests say so: they are called as the VMs are."""
    return {
        volume["name"]
        for vm in list_vms(client, project)
        for volume in vm["volumes"]
        if volume["name"].startswith(f"{vm['name']}-")
    }


def list_deployments(client: Client, project: str) -> list[Deployment]:
    return [each for each in client.list_deployments() if each["labels"].get(PROJECT_LABEL) == project]


def find_vms(vms: list[Vm]) -> list[FoundVm]:
    return [
        FoundVm(
            vm["name"], vm["labels"].get(SERVICE_LABEL, ""), vm["labels"].get(DIGEST_LABEL, ""), vm["status"],
            vm["labels"].get(DEPLOYMENT_LABEL, ""),
        )
        for vm in vms
    ]  # fmt: skip


def find_deployments(deployments: list[Deployment]) -> list[FoundDeployment]:
    return [
        FoundDeployment(
            each["name"], each["labels"].get(SERVICE_LABEL, ""), each["labels"].get(DIGEST_LABEL, ""),
            each["replicas"], each["status"],
        )
        for each in deployments
    ]  # fmt: skip


def list_units(client: Client, project: str) -> dict[str, list[Unit]]:
    """By service."""
    found: dict[str, list[Unit]] = {}
    deployments = list_deployments(client, project)
    for deployment in deployments:
        service = deployment["labels"].get(SERVICE_LABEL, "")
        found.setdefault(service, []).append(Unit(deployment["name"], is_deployment=True))
    names = {deployment["name"] for deployment in deployments}
    for vm in find_vms(list_vms(client, project)):
        if vm.deployment not in names:
            found.setdefault(vm.service, []).append(Unit(vm.name, is_deployment=False))
    return found


def name_deployment(project: str, service: str) -> str:
    return f"{project}-{service.lower().replace('.', '-')}"


def name_vm(project: str, service: str, number: int) -> str:
    return f"{name_deployment(project, service)}-{number}"


def find_number(name: str) -> tuple[str, int]:
    """What to sort names of VMs by."""
    stem, _, number = name.rpartition("-")
    return (stem, int(number)) if is_whole_number(number) else (name, 0)
