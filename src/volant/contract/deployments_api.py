# SPDX-License-Identifier: Apache-2.0
"""Models of the REST API's deployments, as `api.py` has those of everything else."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from volant.contract.api import (
    PluginReference,
    PublishedPort,
    PublishRequest,
    VmHealth,
    VmStatus,
    VmTemplate,
)
from volant.contract.request_values import ApiModel, RequestModel, Seconds

# Leaves room for "-12345" in the names of its VMs.
DEPLOYMENT_NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,56}$"
MOST_REPLICAS = 1000
Replicas = Annotated[int, Field(ge=0, le=MOST_REPLICAS)]
DeploymentStatus = Literal["progressing", "ready", "degraded", "rolled-back", "deleting"]


class UpdatePolicy(ApiModel):
    max_unavailable: int = Field(description="so many fewer VMs than asked for may be ready meanwhile")
    max_surge: int = Field(description="so many more VMs than asked for may be there meanwhile")
    healthy_seconds: float = Field(description="until a new VM has to be ready; else the update is undone")
    drain_seconds: float = Field(description="that connections have to end before their VM is stopped")


class UpdatePolicyRequest(RequestModel):
    """What is left out: one VM more at a time; one fewer where the VMs write to a volume."""

    max_unavailable: int | None = Field(None, ge=0, le=MOST_REPLICAS)
    max_surge: int | None = Field(None, ge=0, le=MOST_REPLICAS)
    healthy_seconds: Seconds | None = Field(None, gt=0)
    drain_seconds: Seconds | None = Field(None, ge=0)


class DeploymentCreate(RequestModel):
    name: str = Field(pattern=DEPLOYMENT_NAME_PATTERN)
    replicas: Replicas = 1
    vm: VmTemplate = Field(
        description="what each VM is made of. Where `restart` is left out, one that ends is replaced; else its own"
        " policy restarts it in place, and it is replaced when that gives up (never where it is `no`)"
    )
    publish: list[PublishRequest] = Field(
        default_factory=list,
        max_length=100,
        description="ports that are balanced over the VMs that are ready",
    )
    update: UpdatePolicyRequest = Field(default_factory=UpdatePolicyRequest)
    labels: dict[str, str] = Field(default_factory=dict)


class TemplateChange(RequestModel):
    """What is left out stays as it is; null for a variable or a label removes it."""

    plugin: str | None = Field(None, description="name (the newest version) or name:version")
    vcpu: int | None = Field(None, ge=1, le=256)
    memory_mb: int | None = Field(None, ge=32, le=4 * 1024 * 1024)
    env: dict[str, str | None] = Field(default_factory=dict)
    labels: dict[str, str | None] = Field(default_factory=dict)
    entrypoint: list[str] | None = Field(None, max_length=1000)
    command: list[str] | None = Field(None, max_length=1000)


class DeploymentUpdate(RequestModel):
    """What is left out stays as it is. A template that differs is a new revision, and the VMs are replaced by it."""

    replicas: Replicas | None = None
    vm: VmTemplate | None = Field(None, description="in place of the template before")
    change: TemplateChange | None = Field(None, description="of the template before; not beside `vm`")
    publish: list[PublishRequest] | None = Field(None, max_length=100, description="in place of those before")
    update: UpdatePolicyRequest | None = None
    labels: dict[str, str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_template(self) -> Self:
        if self.vm is not None and self.change is not None:
            raise ValueError("change: give a whole template as vm, or changes of the one before")
        return self


class RollbackRequest(RequestModel):
    revision: int | None = Field(None, ge=1, le=(1 << 63) - 1, description="null: the one before")


class DeploymentVm(ApiModel):
    id: str
    name: str
    revision: int
    is_current: bool = Field(description="whether it is made as the deployment says now")
    ready: bool
    status: VmStatus
    health: VmHealth
    reason: str = ""


class Deployment(ApiModel):
    id: str
    name: str
    status: DeploymentStatus
    reason: str = ""
    replicas: int = Field(description="wanted")
    ready: int
    updated: int = Field(description="VMs that are made as the deployment says now")
    revision: int
    plugin: PluginReference
    publish: list[PublishedPort] = Field(default_factory=list)
    update: UpdatePolicy
    labels: dict[str, str] = Field(default_factory=dict)
    vms: list[DeploymentVm] = Field(default_factory=list)
    created_at: str
    updated_at: str


class DeploymentRevision(ApiModel):
    number: int
    plugin: PluginReference
    cause: str = Field(description='"create", "update" or "rollback to NUMBER"')
    who: str
    created_at: str
