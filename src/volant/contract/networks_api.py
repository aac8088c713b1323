# SPDX-License-Identifier: Apache-2.0
"""Models of the REST API's networks, as `api.py` has those of everything else."""

from __future__ import annotations

from pydantic import Field

from volant.contract.request_values import ApiModel, RequestModel


class VmNetwork(ApiModel):
    name: str
    internal: bool = Field(description="whose members reach each other and this host, and nothing beyond")
    labels: dict[str, str]
    vms: list[str] = Field(description="that are in it, running or not")
    created_at: str


class VmNetworkCreate(RequestModel):
    name: str
    internal: bool = Field(False, description="no way out for VMs that are in no other network")
    labels: dict[str, str] = Field(default_factory=dict)
