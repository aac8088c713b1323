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
        """List networks by name; `default` always exists."""
        return [describe(network) for network in networks.list_all()]

    @router.post("", status_code=201)
    async def create(request: VmNetworkCreate) -> VmNetwork:
        """Create a network. VMs reach each other only if they share a network."""
        note_target(request.name)
        return describe(networks.create(request.name, internal=request.internal, labels=request.labels))

    @router.get("/{name}")
    async def get(name: str) -> VmNetwork:
        """Show one network."""
        return describe(networks.get(name))

    @router.delete("/{name}", status_code=204)
    async def delete(name: str) -> None:
        """Delete a network; 409 if a VM, running or not, is in it."""
        networks.remove(name)

    return router
