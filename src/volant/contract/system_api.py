# SPDX-License-Identifier: Apache-2.0
"""REST API models of what is the daemon's own: its host, tokens, audit log, templates and backups."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from volant.contract.api import NetworkMode
from volant.contract.request_values import ApiModel, RequestModel

MOST_LIFETIME_SECONDS = 10 * 365 * 86_400


class TokenCreate(RequestModel):
    name: str = Field(max_length=63)
    scope: str = Field(max_length=66, description="read, vm:NAME or admin")
    lifetime_seconds: int | None = Field(
        30 * 86_400, ge=1, le=MOST_LIFETIME_SECONDS, description="null: for ever"
    )


class TokenRotate(RequestModel):
    overlap_seconds: int = Field(3600, ge=0, le=MOST_LIFETIME_SECONDS)


class Token(ApiModel):
    name: str
    scope: str
    created_at: str
    expires_at: str | None
    previous_until: str | None = Field(description="how long the one before the last rotation is taken")


class NewToken(Token):
    token: str


class AuditEntry(ApiModel):
    time: str
    request_id: str
    who: str = Field(description='"uid 1000" or "token NAME"')
    action: str = Field(description="the operation, as operationId here names it")
    target: str
    status: int = Field(description="of the reply; 0: not known, the daemon ended before")
    error: str = Field(description="its code, or empty")
    milliseconds: int


class RestoreReply(ApiModel):
    """What is there once the daemon, which begins anew, answers again."""

    taken_at: str
    vms: int
    plugins: int
    secrets: int
    notes: list[str] = Field(default_factory=list, description="what is left to be done by people")


class KernelInfo(ApiModel):
    """A kernel of this host that guests can boot."""

    name: str
    architecture: Literal["amd64", "arm64"]
    is_default: bool = Field(description="what VMs boot that name none")


class TemplateInfo(ApiModel):
    """The memory of a guest that is no VM yet, from which VMs of its shape wake."""

    key: str
    plugin: str = Field("", description="whose workload is up in it; empty: of every plugin")
    vcpu: int
    memory_mb: int
    accelerator: Literal["kvm", "tcg"]
    kernel: str
    network: bool
    size_bytes: int
    took_seconds: float
    created_at: str


class TrustRule(RequestModel):
    """Which plugins are taken from somewhere."""

    scope: str = Field(
        max_length=512,
        description='a repository, all below a place ("registry.example.com/team/*"), "*" for every registry, or'
        ' "local" for files and http addresses; the narrowest counts',
    )
    verdict: Literal["signed", "allow", "refuse"] = "signed"
    keys: list[Annotated[str, Field(max_length=8192)]] = Field(
        default_factory=list,
        max_length=16,
        description="public keys in PEM; a signature by any of them suffices",
    )


class SystemInfo(ApiModel):
    version: str
    api_versions: list[str] = Field(default_factory=lambda: ["v1"])
    hypervisor: str = ""
    accelerator: str = ""
    accelerator_reason: str = ""
    kernel: str = ""
    default_network: NetworkMode = "user"
    state_dir: str = ""
    instance: str = Field("", description="changes with every start of the daemon")
    vms: int = 0
    plugins: int = 0
    lost_and_found: list[str] = Field(
        default_factory=list, description="what no row of the database names, set aside at start"
    )


class DashboardLink(ApiModel):
    url: str
    expires_seconds: int


class HostFinding(ApiModel):
    """What `volar doctor` says of one subject."""

    subject: str
    state: Literal["ok", "limited", "missing"]
    fact: str
    mend: str = ""
