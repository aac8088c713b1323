# SPDX-License-Identifier: Apache-2.0
"""Models of the REST API's volumes, as `api.py` has those of everything else."""

from __future__ import annotations

from pydantic import Field

from volant.contract.request_values import ApiModel, RequestModel


class VolumeAttachment(ApiModel):
    name: str = Field(description="empty in a request: one that is made with the VM, called VM-PATH")
    target: str = Field(description="the folder where the guest finds it")
    read_only: bool = False


class Volume(ApiModel):
    id: str
    name: str
    size_bytes: int
    used_bytes: int = Field(description="on the host's disk")
    vms: list[str] = Field(description="that have it, running or not")
    created_at: str


class VolumeCreate(RequestModel):
    name: str
    size: str = Field("10G", description="e.g. 20G; it takes what is written to it, not more")


class VolumeResize(RequestModel):
    size: str = Field(description="e.g. 20G; larger than it is")
