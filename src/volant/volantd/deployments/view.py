# SPDX-License-Identifier: Apache-2.0
"""A deployment as it is now: what its rows and those of its VMs say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from volant.volantd.deployments.observing import describe_condition, find_condition
from volant.volantd.deployments.planning import Condition
from volant.volantd.deployments.record import Deployment
from volant.volantd.deployments.store import DeploymentStore
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.registry import VmRegistry

STATUSES = ("progressing", "ready", "degraded", "rolled-back", "deleting")


@dataclass(frozen=True, slots=True)
class Member:
    record: VmRecord
    revision: int
    is_current: bool
    is_ready: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Overview:
    status: str
    reason: str
    plugin: str
    members: Sequence[Member]

    @property
    def ready(self) -> int:
        return sum(member.is_ready for member in self.members)

    @property
    def updated(self) -> int:
        return sum(member.is_current for member in self.members)


def look_at(store: DeploymentStore, registry: VmRegistry, deployment: Deployment) -> Overview:
    """Its VMs in the order of their numbers; what is on its way out is neither ready nor current."""
    templates = {revision.number: revision.template for revision in store.list_revisions(deployment)}
    current = templates[deployment.revision]
    numbers = store.list_vms(deployment)
    members = []
    for record in registry.read_many(list(numbers)):
        template = templates[numbers[record.id]]
        condition = find_condition(record, template)
        is_leaving = record.id in deployment.progress.leaving
        members.append(
            Member(
                record=record,
                revision=numbers[record.id],
                is_current=template.dump() == current.dump() and not is_leaving,
                is_ready=condition is Condition.READY and not is_leaving,
                reason="on its way out" if is_leaving else describe_condition(record, condition),
            )
        )
    members.sort(key=lambda member: (len(member.record.name), member.record.name))
    overview = Overview("", "", current.vm.plugin, members)
    status = find_status(deployment, overview)
    reason = deployment.progress.reason or (deployment.progress.rolled_back if status != "ready" else "")
    return Overview(status, reason, current.vm.plugin, members)


def find_status(deployment: Deployment, overview: Overview) -> str:
    """In one word, as the API has it."""
    progress = deployment.progress
    if deployment.deleting:
        return "deleting"
    if not progress.is_settled:
        return "progressing"
    if overview.ready < deployment.replicas:
        return "degraded"
    return "rolled-back" if progress.rolled_back else "ready"
