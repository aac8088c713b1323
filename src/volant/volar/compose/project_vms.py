# SPDX-License-Identifier: Apache-2.0
"""The stack at the daemon: its VMs and volumes by their labels and names. The seam to what runs a service's VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volant.volar.client import Client
from volant.volar.compose.networks import PROJECT_LABEL
from volant.volar.compose.planning import FoundVm
from volant.volar.compose.requests import DIGEST_LABEL, SERVICE_LABEL

if TYPE_CHECKING:
    from volant.contract.api_types import Vm


def list_vms(client: Client, project: str) -> list[Vm]:
    return client.list_vms(label=[f"{PROJECT_LABEL}={project}"])


def list_found(client: Client, project: str) -> list[FoundVm]:
    return [
        FoundVm(
            vm["name"], vm["labels"].get(SERVICE_LABEL, ""), vm["labels"].get(DIGEST_LABEL, ""), vm["status"]
        )
        for vm in list_vms(client, project)
    ]


def name_vm(project: str, service: str, number: int) -> str:
    return f"{project}-{service.lower().replace('.', '-')}-{number}"
