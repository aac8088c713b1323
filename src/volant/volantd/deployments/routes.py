# SPDX-License-Identifier: Apache-2.0
"""/deployments."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from volant.contract.api import PluginReference, PublishedPort, PublishRequest, VmCreate, VmTemplate
from volant.contract.deployments_api import (
    Deployment,
    DeploymentCreate,
    DeploymentRevision,
    DeploymentUpdate,
    DeploymentVm,
    RollbackRequest,
    UpdatePolicy,
    UpdatePolicyRequest,
)
from volant.errors import NotFound, VolantError
from volant.volantd.api.mount_rights import check_may_mount
from volant.volantd.api.retries import IdempotencyKey, make_key
from volant.volantd.api.router import Router
from volant.volantd.api.vm_view import read_request
from volant.volantd.deployments.record import Deployment as Record
from volant.volantd.deployments.record import Template
from volant.volantd.deployments.requests import (
    DeploymentChange,
    DeploymentRequests,
    PolicyRequest,
    TemplateChange,
)
from volant.volantd.deployments.view import Member, look_at
from volant.volantd.network.types import PortRequest
from volant.volantd.request_context import note_target
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.states import WITH_PROCESS

# VMs stop within their deadlines, all at once.
DELETE_SECONDS = 120.0


def make_router(fleet: Fleet) -> Router:
    router = Router("/deployments", tags=["deployments"])
    requests = DeploymentRequests(fleet.domain)
    store = requests.store

    def describe(deployment: Record) -> Deployment:
        return make_view(fleet, requests, deployment)

    @router.get("")
    async def list_deployments() -> list[Deployment]:
        """List deployments by name."""
        return [describe(deployment) for deployment in store.list_all()]

    @router.post("", status_code=201)
    async def create(request: DeploymentCreate, idempotency_key: IdempotencyKey = None) -> Deployment:
        """Create a deployment: several VMs of a plugin, and ports that are balanced over them. Returns before
        the VMs run."""
        note_target(request.name)
        check_may_mount(request.vm.mounts)
        return describe(
            requests.create(
                request.name,
                request.replicas,
                read_template(request.vm),
                read_ports(request.publish),
                read_policy(request.update),
                request.labels,
                make_key(idempotency_key, "deployments", request),
            )
        )

    @router.get("/{name}")
    async def get(name: str) -> Deployment:
        """Show one deployment."""
        return describe(store.get(name))

    @router.get("/{name}/revisions")
    async def revisions(name: str) -> list[DeploymentRevision]:
        """List a deployment's revisions, oldest first; the newest twenty are kept."""
        return [
            DeploymentRevision(
                number=revision.number,
                plugin=read_plugin(revision.template.vm.plugin),
                cause=revision.cause,
                who=revision.who,
                created_at=revision.created_at,
            )
            for revision in store.list_revisions(store.get(name))
        ]

    @router.patch("/{name}")
    async def update(name: str, request: DeploymentUpdate) -> Deployment:
        """Scale a deployment, or have its VMs replaced. Returns before that is done."""
        if request.vm is not None:
            check_may_mount(request.vm.mounts)
        change = None
        if request.change is not None:
            change = TemplateChange(**request.change.model_dump())
        wanted = DeploymentChange(
            replicas=request.replicas,
            template=None if request.vm is None else read_template(request.vm),
            change=change,
            publish=None if request.publish is None else read_ports(request.publish),
            policy=None if request.update is None else read_policy(request.update),
            labels=request.labels,
        )
        return describe(requests.change(name, wanted))

    @router.post("/{name}/rollback")
    async def rollback(name: str, request: RollbackRequest | None = None) -> Deployment:
        """Go back to an earlier revision, by the same steps as an update."""
        number = None if request is None else request.revision
        return describe(requests.roll_back(name, number))

    @router.delete("/{name}", status_code=204)
    async def delete(name: str) -> None:
        """Delete a deployment with its VMs and their disks; volumes are kept. Returns when they are deleted."""
        with fleet.domain.events.listen() as happenings:
            identity = requests.delete(name).id
            try:
                async with asyncio.timeout(DELETE_SECONDS):
                    while is_there(identity):
                        await happenings.get()
            except TimeoutError:
                raise VolantError(
                    f"cannot wait any longer for deployment {name} to be deleted: its VMs are still being deleted",
                    resolution=f"look again: volar deployments get {name}",
                ) from None

    def is_there(identity: str) -> bool:
        try:
            store.get(identity)
        except NotFound:
            return False
        return True

    return router


def read_template(template: VmTemplate) -> Template:
    given = template.model_dump(exclude_unset=True)
    request = read_request(VmCreate(name="", **given))
    return Template(vm=request, replaces_always="restart" not in template.model_fields_set)


def read_ports(ports: list[PublishRequest]) -> list[PortRequest]:
    return [PortRequest(**port.model_dump()) for port in ports]


def read_policy(policy: UpdatePolicyRequest) -> PolicyRequest:
    return PolicyRequest(**policy.model_dump())


def read_plugin(reference: str) -> PluginReference:
    name, _, version = reference.partition(":")
    return PluginReference(name=name, version=version)


def make_view(fleet: Fleet, requests: DeploymentRequests, deployment: Record) -> Deployment:
    overview = look_at(requests.store, fleet.domain.registry, deployment)
    return Deployment(
        id=deployment.id,
        name=deployment.name,
        status=overview.status,
        reason=overview.reason,
        replicas=deployment.replicas,
        ready=overview.ready,
        updated=overview.updated,
        revision=deployment.revision,
        plugin=read_plugin(overview.plugin),
        publish=[PublishedPort(**asdict(port)) for port in deployment.publish],
        update=UpdatePolicy(**deployment.policy.model_dump()),
        labels=deployment.labels,
        vms=[describe_member(member) for member in overview.members],
        created_at=deployment.created_at,
        updated_at=deployment.updated_at,
    )


def describe_member(member: Member) -> DeploymentVm:
    record = member.record
    runs = record.guest is not None and record.state in WITH_PROCESS
    return DeploymentVm(
        id=record.id,
        name=record.name,
        revision=member.revision,
        is_current=member.is_current,
        ready=member.is_ready,
        status=record.state.value,
        health=record.guest.health if runs and record.guest is not None else "unknown",
        reason=member.reason,
    )
