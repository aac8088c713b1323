# SPDX-License-Identifier: Apache-2.0
"""The state folder, taken and opened: one program at a time, its database up to date, and all that works with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from volant.errors import Conflict
from volant.volantd.audit import AuditLog
from volant.volantd.database import Database
from volant.volantd.hypervisors.base import SOCKET_PATH_LIMIT, Hypervisor
from volant.volantd.network.bridge import find_net
from volant.volantd.network.bridge_networks import BridgeNetworks
from volant.volantd.network.carrier.carrier import SOCKET_NAME as CARRIER_SOCKET
from volant.volantd.network.carrier.carrier import Carrier
from volant.volantd.network.egress.guard import EgressGuard
from volant.volantd.network.packet_filter import run_nft
from volant.volantd.network.shared.namespace import SOCKET_NAME as HOLDER_SOCKET
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.networks.store import NetworkStore
from volant.volantd.plugins.store import PluginStore
from volant.volantd.reserve import Reserve
from volant.volantd.resources import RESOURCES
from volant.volantd.secrets.store import SecretStore
from volant.volantd.settings import Settings
from volant.volantd.templates.store import TemplateStore
from volant.volantd.templates.supply import TemplateSupply
from volant.volantd.tokens.store import TokenStore
from volant.volantd.usage import Usage
from volant.volantd.vms.boot_record import BootRecords
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.events import EventLog
from volant.volantd.vms.history import ChangeHistory
from volant.volantd.vms.registry import VmRegistry
from volant.volantd.volumes.store import VolumeStore


@contextmanager
def hold_lock(settings: Settings) -> Iterator[None]:
    """One daemon per state folder; the kernel lets go of the lock however we end."""
    descriptor = os.open(settings.state_dir / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"cannot start volantd: another one works with {settings.state_dir}",
                resolution="use that one (volar daemon status), or set VOLANT_HOME to run a second one",
            ) from None
        yield
    finally:
        os.close(descriptor)


def make_domain(
    settings: Settings,
    hypervisor: Hypervisor,
    stack: contextlib.ExitStack,
    others: Sequence[Hypervisor] = (),
) -> Domain:
    database = Database(settings.database, Reserve(settings.reserve))
    stack.callback(database.close)
    database.bring_up_to_date({resource.name: resource.migrations for resource in RESOURCES})
    usage = Usage()
    registry = VmRegistry(database)
    domain = Domain(
        settings=settings,
        database=database,
        registry=registry,
        plugins=PluginStore(database, settings.state_dir / "plugins", usage),
        secrets=SecretStore(database, settings.state_dir / "secrets.key", usage),
        volumes=VolumeStore(settings.state_dir, usage),
        networks=NetworkStore(database, usage),
        tokens=TokenStore(database),
        audit=make_audit(settings, stack),
        events=EventLog(database),
        history=ChangeHistory(database),
        boots=BootRecords(database),
        hypervisor=hypervisor,
        others=tuple(others),
        templates=TemplateSupply(
            TemplateStore(settings.cache_dir / "templates"),
            hypervisor,
            settings.runtime_dir,
            settings.warm_start == "on" and hypervisor.capabilities.templates,
        ),
        shared_network=make_shared_network(settings, registry),
        carrier=make_carrier(settings),
        bridge_egress=EgressGuard(run_nft, find_net, registry.list_held_guests),
        bridge_networks=BridgeNetworks(run_nft, find_net, registry.list_bridged_guests),
    )
    domain.plugins.on_removed = domain.templates.store.remove_orphans
    for resource in RESOURCES:
        if resource.find_users is not None:
            usage.ask(resource.noun, resource.name, resource.find_users(domain))
    return domain


def make_shared_network(settings: Settings, registry: VmRegistry) -> SharedNetwork:
    return SharedNetwork(
        choose_lasting_folder(settings),
        settings.state_dir,
        is_on=settings.shared_network != "off" and settings.host_loopback == "closed",
        find_guests=registry.list_shared_guests,
    )


def make_carrier(settings: Settings) -> Carrier:
    folder = choose_lasting_folder(settings)
    return Carrier(folder, settings.state_dir / "ports.log", folder / HOLDER_SOCKET)


def choose_lasting_folder(settings: Settings) -> Path:
    """Where what outlives the daemon listens: the state folder, which is there for as long as VMs are, unless its path
    is too long."""
    longest = max(len(HOLDER_SOCKET), len(CARRIER_SOCKET))
    fits = len(os.fsencode(settings.state_dir)) + 1 + longest <= SOCKET_PATH_LIMIT
    return settings.state_dir if fits else settings.runtime_dir


def make_audit(settings: Settings, stack: contextlib.ExitStack) -> AuditLog:
    audit = AuditLog(settings.audit)
    stack.callback(audit.close)
    return audit
