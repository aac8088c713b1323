# SPDX-License-Identifier: Apache-2.0
"""One VM of a deployment, as it is asked for."""

from __future__ import annotations

from dataclasses import replace

from volant.volantd.deployments.record import Deployment, Template
from volant.volantd.network.types import PortRequest
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.networking import ON_BRIDGE, find_default_mode

# Never in place: a fresh VM takes its place. It comes back with its host though, which `no` would not.
REPLACED = "on-failure:0"


def make_request(domain: Domain, deployment: Deployment, template: Template, name: str) -> NewVm:
    vm = template.vm
    manifest = domain.plugins.load(vm.plugin).manifest
    usual = (manifest.network.mode if manifest.network else None) or find_default_mode(domain.settings)
    is_reached = (vm.network or usual) in ON_BRIDGE
    have = {(port.guest_port, port.protocol) for port in vm.publish} | {(manifest.workload.port, "tcp")}
    missing = [] if is_reached else [
        PortRequest(guest_port, protocol=protocol)
        for guest_port, protocol in dict.fromkeys(
            (port.guest_port, port.protocol) for port in deployment.publish
        )
        if (guest_port, protocol) not in have
    ]  # fmt: skip
    return replace(
        vm,
        name=name,
        deployment=deployment.name,
        # Whoever shares a network with them finds all of them by it.
        aliases=list(dict.fromkeys([*vm.aliases, deployment.name])) if vm.networks or vm.aliases else (),
        publish=[*vm.publish, *missing],
        restart=REPLACED if template.replaces_always else vm.restart,
    )
