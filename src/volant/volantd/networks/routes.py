# SPDX-License-Identifier: Apache-2.0
"""/networks."""

from __future__ import annotations

from dataclasses import asdict

from volant.contract.networks_api import VmNetwork, VmNetworkCreate
from volant.volantd.api.router import Router
from volant.volantd.networks.store import Network as StoredNetwork
from volant.volantd.networks.store import NetworkStore
from volant.volantd.request_context import note_target


def make_router(networks: NetworkStore) -> Router:
    router = Router("/networks", tags=["networks"])

    def describe(network: StoredNetwork) -> VmNetwork:
        return VmNetwork(**asdict(network), vms=networks.find_vms(network))

    @router.get("")
    async def list_networks() -> list[VmNetwork]:
        """By name; `default` is always there."""
        return [describe(network) for network in networks.list_all()]

    @router.post("", status_code=201)
    async def create(request: VmNetworkCreate) -> VmNetwork:
        """VMs reach each other where they share a network, and only there."""
        note_target(request.name)
        return describe(networks.create(request.name, internal=request.internal, labels=request.labels))

    @router.get("/{name}")
    async def get(name: str) -> VmNetwork:
        return describe(networks.get(name))

    @router.delete("/{name}", status_code=204)
    async def delete(name: str) -> None:
        """One that a VM is in, running or not, stays: 409."""
        networks.remove(name)

    return router
