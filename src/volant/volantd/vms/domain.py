# SPDX-License-Identifier: Apache-2.0
"""What everything about VMs works with."""

from __future__ import annotations

from dataclasses import dataclass

from volant.errors import Conflict
from volant.volantd.audit import AuditLog
from volant.volantd.database import Database
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.network.bridge_networks import BridgeNetworks
from volant.volantd.network.carrier.carrier import Carrier
from volant.volantd.network.egress.guard import EgressGuard
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.networks.store import NetworkStore
from volant.volantd.plugins.store import PluginStore
from volant.volantd.secrets.store import SecretStore
from volant.volantd.settings import Settings
from volant.volantd.templates.supply import TemplateSupply
from volant.volantd.tokens.store import TokenStore
from volant.volantd.vms.boot_record import BootRecords
from volant.volantd.vms.events import EventLog
from volant.volantd.vms.history import ChangeHistory
from volant.volantd.vms.registry import VmRegistry
from volant.volantd.volumes.store import VolumeStore


@dataclass(frozen=True, slots=True)
class Domain:
    """Built once by the daemon."""

    settings: Settings
    database: Database
    registry: VmRegistry
    plugins: PluginStore
    secrets: SecretStore
    volumes: VolumeStore
    networks: NetworkStore
    tokens: TokenStore
    audit: AuditLog
    events: EventLog
    history: ChangeHistory
    boots: BootRecords
    hypervisor: Hypervisor
    """The usual one."""
    templates: TemplateSupply
    shared_network: SharedNetwork
    carrier: Carrier
    bridge_egress: EgressGuard
    bridge_networks: BridgeNetworks
    others: tuple[Hypervisor, ...] = ()
    """Further kinds that VMs may be made for."""

    @property
    def egress_guards(self) -> tuple[EgressGuard, ...]:
        return (self.shared_network.egress, self.bridge_egress)

    @property
    def hypervisors(self) -> tuple[Hypervisor, ...]:
        return (self.hypervisor, *self.others)

    def find_hypervisor(self, kind: str) -> Hypervisor:
        """The driver of a VM. Conflict where this daemon has none such."""
        for hypervisor in self.hypervisors:
            if hypervisor.kind == kind:
                return hypervisor
        known = " and ".join(hypervisor.kind for hypervisor in self.hypervisors)
        raise Conflict(f"cannot reach a VM of {kind}: this volantd works with {known}")
