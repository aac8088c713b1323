# SPDX-License-Identifier: Apache-2.0
"""A VM's place on the network: which address and ports it has, and what that needs while it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volant.contract.egress import OPEN, parse_egress
from volant.contract.manifest import Manifest
from volant.errors import Conflict, InvalidInput
from volant.process import require_tool
from volant.volantd.hypervisors.base import Nic, SharedNic, StreamNic, TapNic, UserNic
from volant.volantd.network import bridge_ipv6
from volant.volantd.network.bridge import (
    choose_lease,
    guard_tap,
    is_bridge_installed,
    list_idle_taps,
    make_tap,
    name_tap,
    remove_tap,
)
from volant.volantd.network.shared.network import SharedNetwork, find_guest_address
from volant.volantd.network.types import NetworkMode, PortRequest, PublishedPort
from volant.volantd.network.user_mode import Reach, UserNetwork, find_outward_obstacle
from volant.volantd.networks.store import DEFAULT
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.settings import Settings
from volant.volantd.vms.addresses import choose_address, leave_out_covered, publish
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.record import VmRecord, WakeSource

NETWORK_SOCKET = "net.sock"
SSH_PORT = 22
INNER_PREFIX, FIRST_INNER_PORT = "127.126.", 10_000
ON_BRIDGE: tuple[NetworkMode, ...] = ("bridged", "dhcp")


def find_default_mode(settings: Settings) -> NetworkMode:
    """Bridged once a person has set it up for this very daemon, user otherwise.

    The bridge alone does not decide: two daemons that lease addresses on it would give the same ones.
    """
    return "bridged" if settings.bridge_mark.exists() and is_bridge_installed() else "user"


def list_guest_ports(plugin: StoredPlugin) -> list[int]:
    """What people reach first: the workload, and the SSH server of a disk that boots its own system."""
    port = plugin.manifest.workload.port
    found = [] if port is None else [port]
    return found if plugin.boot == "kernel" or port == SSH_PORT else [*found, SSH_PORT]


def choose_place(
    name: str,
    publish_requests: Sequence[PortRequest],
    mode: NetworkMode,
    guest_ports: Sequence[int],
    taken: Collection[str],
    settings: Settings,
) -> tuple[str | None, list[PublishedPort]]:
    """Address and published ports of a new VM; in user mode `guest_ports` are published at its address."""
    if mode == "user":
        address, ports = choose_address(taken, guest_ports)
        ports = leave_out_covered(ports, publish_requests)
        return address, [*ports, *publish(publish_requests, ports)]
    if mode in ON_BRIDGE:
        if mode == "dhcp":
            require_tool("dnsmasq", package="dnsmasq-base")
        if find_default_mode(settings) != "bridged":
            raise Conflict(
                f"cannot create VM {name} in {mode} mode: this daemon has no bridge",
                resolution="make it once: volar setup network   (or create the VM with --network user)",
            )
        return choose_lease(taken), publish(publish_requests)
    if publish_requests:
        raise InvalidInput(f"cannot publish ports of VM {name}: it has no network")
    return None, []


async def prepare_network(
    domain: Domain, record: VmRecord, plugin: StoredPlugin, source: WakeSource | None
) -> SharedNetwork | None:
    """The network that a VM in user mode is on with others, ready for it; None where it has one of its own.

    `source`: what it wakes from, whose memory knows no other kind of NIC. Conflict where the VM could not be held to
    what it may reach; on root's bridge it is held to that from here on.
    """
    if record.definition.network in ON_BRIDGE:
        await _settle_bridge(domain)
        return None
    network = await _choose_shared(domain, record, plugin, source)
    egress = parse_egress(record.definition.egress)
    if network is None and not (egress.is_open or egress.is_closed):
        obstacle = domain.shared_network.failure or "its memory or its kind of disk is of another network"
        raise refuse_egress(record.name, record.definition.egress, obstacle)
    return network


async def _settle_bridge(domain: Domain) -> None:
    """Who reaches whom on root's bridge, and what beyond it, as the VMs of now have it."""
    await domain.bridge_egress.apply()
    await domain.bridge_networks.apply()


def refuse_egress(name: str, egress: str, obstacle: str) -> Conflict:
    return Conflict(
        f"cannot hold VM {name} to its egress {egress}: it cannot be on the shared network: {obstacle}",
        resolution="use --egress none or open, or --network bridged after volar setup; volar doctor says more",
    )


async def _choose_shared(
    domain: Domain, record: VmRecord, plugin: StoredPlugin, source: WakeSource | None
) -> SharedNetwork | None:
    capabilities = domain.find_hypervisor(record.hypervisor).capabilities
    if record.definition.network != "user" or not capabilities.lent_taps or plugin.boot != "kernel":
        return None
    if source is not None and any(not isinstance(nic, SharedNic) for nic in source.spec.nics):
        return None
    definition = record.definition
    asked = definition.networks or definition.aliases or source is not None or definition.egress != OPEN
    if domain.settings.shared_network == "named" and not asked:
        return None
    return domain.shared_network if await domain.shared_network.find_obstacle() is None else None


def list_networks(record: VmRecord) -> list[str]:
    """Those by name that it is in where it is on the shared network, or on root's bridge."""
    if record.definition.network not in ("user", *ON_BRIDGE) or record.definition.isolated:
        return []
    return record.definition.networks or [DEFAULT]


def choose_reach(settings: Settings, qemu_version: str, egress: str) -> Reach:
    """What guests in user mode reach that are on no network with others: the host's own services only where a setting
    says so. To a list they cannot be held there (`prepare_network`)."""
    if egress != OPEN:
        return "nowhere"
    if settings.host_loopback == "open":
        return "everything"
    return "nowhere" if find_outward_obstacle(qemu_version) else "outward"


def find_warnings(record: VmRecord, network: SharedNetwork) -> list[str]:
    """What people should know of a VM's network, as it was started."""
    egress = record.definition.egress
    nics = record.spec.nics if record.spec is not None else ()
    if any(isinstance(nic, SharedNic) and nic.namespace != network.inode for nic in nics):
        return ["its network was lost with the process that held it: restart the VM"]
    if any(isinstance(nic, UserNic | StreamNic) for nic in nics) and network.failure:
        return [f"it does not see other VMs: {network.failure}", *_find_restricted(nics, egress)]
    return _find_restricted(nics, egress)


def _find_restricted(nics: Sequence[Nic], egress: str) -> list[str]:
    if egress == OPEN and any(isinstance(nic, UserNic) and nic.is_restricted for nic in nics):
        return ["its network leads nowhere but to its published ports: see the line about it in volar doctor"]
    return []


def make_nics(
    record: VmRecord, reach: Reach, sockets: Path, network: SharedNetwork | None = None
) -> tuple[Nic, ...]:
    match record.definition.network:
        case "user" if network is not None:
            assert record.address is not None
            address = find_guest_address(record.address)
            address6 = network.find_ipv6_address(address)
            return (SharedNic(record.mac, name_tap(record.id), address, network.inode or 0, address6),)
        case "user" if reach == "outward":
            return (StreamNic(record.mac, sockets / NETWORK_SOCKET),)
        case "user":
            return (UserNic(record.mac, list_bound_ports(record), is_restricted=reach == "nowhere"),)
        case "bridged" | "dhcp":
            return (TapNic(record.mac, name_tap(record.id), find_ipv6_address(record)),)
        case _:
            return ()


def find_ipv6_address(record: VmRecord) -> str:
    """The address that a guest is told to have; DHCP tells of none."""
    if record.definition.network != "bridged" or record.address is None:
        return ""
    return bridge_ipv6.find_address(record.address)


def find_told_ipv6_address(record: VmRecord) -> str | None:
    nics = record.spec.nics if record.spec is not None else ()
    return next((nic.ipv6_address for nic in nics if isinstance(nic, TapNic) and nic.ipv6_address), None)


@dataclass
class Attachment:
    """What a VM's process has of the network when it starts: `taps` are lent to it, the others become ready beside."""

    taps: list[int] = field(default_factory=list)
    private: UserNetwork | None = None
    rules: asyncio.Task[None] | None = None

    async def wait_ready(self) -> None:
        if self.private is not None:
            await self.private.wait_ready()
        if self.rules is not None:
            await self.rules

    def release(self) -> None:
        """The process has them, or never will."""
        while self.taps:
            os.close(self.taps.pop())

    def close(self) -> None:
        """End what no process will ever come for."""
        if self.private is not None:
            self.private.close()
        if self.rules is not None:
            self.rules.cancel()


async def attach(
    record: VmRecord, reach: Reach, folder: Path, sockets: Path, network: SharedNetwork | None = None,
    *, goes_on: bool = False,
) -> Attachment:  # fmt: skip
    """Make what the VM's process needs to be there before it starts; returns what has yet to become ready. `goes_on`:
    its guest does so as who it was."""
    if network is not None:
        tap = await network.open_tap(name_tap(record.id))
        # Without rules of its own a tap device reaches nobody: they may come a little later.
        return Attachment([tap], rules=asyncio.create_task(network.refresh()))
    if record.definition.network in ON_BRIDGE:
        assert record.address is not None
        isolated = record.definition.isolated
        await asyncio.to_thread(
            make_tap, name_tap(record.id), record.mac, record.address, is_isolated=isolated
        )
    elif record.definition.network == "user" and reach == "outward":
        private = UserNetwork(folder / "network.log")
        bound = list_bound_ports(record)
        private.start(sockets / NETWORK_SOCKET, record.mac, bound, goes_on=goes_on)
        return Attachment(private=private)
    return Attachment()


async def guard(record: VmRecord, domain: Domain) -> None:
    """Filter again what an adopted VM sends: somebody may have flushed all rules of the host meanwhile."""
    if is_shared(record):
        await domain.shared_network.prepare()
        await domain.shared_network.refresh()
    if record.definition.network in ON_BRIDGE and record.address is not None:
        await _settle_bridge(domain)
        isolated = record.definition.isolated
        await asyncio.to_thread(
            guard_tap, name_tap(record.id), record.mac, record.address, is_isolated=isolated
        )


def remove_stray_taps(vm_ids: Iterable[str]) -> list[str]:
    """At the daemon's start: tap devices of VMs that are gone, as where they were deleted from the database. Blocking;
    returns those that were removed."""
    known = {name_tap(vm_id) for vm_id in vm_ids}
    stray = [name for name in list_idle_taps() if name not in known]
    for name in stray:
        remove_tap(name)
    return stray


async def detach(record: VmRecord) -> None:
    """Take it away again; harmless where it is gone."""
    if record.definition.network in ON_BRIDGE:
        await asyncio.to_thread(remove_tap, name_tap(record.id))


def is_shared(record: VmRecord) -> bool:
    """Whether it was started on the shared network."""
    return record.spec is not None and any(isinstance(nic, SharedNic) for nic in record.spec.nics)


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Where the host reaches the guest's end of each of a VM's published ports that are ours to listen on: `is_inside`
    the shared network, or from here."""

    ports: tuple[PublishedPort, ...]
    targets: tuple[tuple[str, int], ...]
    is_inside: bool = False


def find_forwarding(record: VmRecord, *, is_shared: bool) -> Forwarding | None:
    """Of a bridged VM, of one on the shared network, and of one with inner ports; None where there are none, or the
    hypervisor listens."""
    address, ports = record.address, tuple(record.ports)
    if not ports or address is None:
        return None
    if record.definition.network in ON_BRIDGE:
        return Forwarding(ports, tuple((address, port.guest_port) for port in ports))
    if is_shared:
        guest = find_guest_address(address)
        return Forwarding(ports, tuple((guest, port.guest_port) for port in ports), is_inside=True)
    if not has_inner_ports(record):
        return None
    inner = {(port.guest_port, port.protocol): port for port in list_bound_ports(record)}
    found = [inner[port.guest_port, port.protocol] for port in ports]
    return Forwarding(ports, tuple((port.host_ip, port.host_port) for port in found))


def sleeps_when_idle(record: VmRecord) -> bool:
    return record.definition.suspend_when_idle_seconds > 0


def has_inner_ports(record: VmRecord) -> bool:
    """Whether the daemon holds the ports in user mode: so that they wake it, or since passt knows a port of the host
    only once, at whatever address ("Overlapping port specifier")."""
    return sleeps_when_idle(record) or len({(p.host_port, p.protocol) for p in record.ports}) < len(
        record.ports
    )


def list_bound_ports(record: VmRecord) -> tuple[PublishedPort, ...]:
    """What the hypervisor binds in user mode: the published ports, or where the daemon holds those itself, a loopback
    address beside the VM's own with a port for each of the guest's."""
    if not has_inner_ports(record) or record.address is None:
        return record.ports
    inner_address = record.address.replace("127.127.", INNER_PREFIX, 1)
    guest_ports = dict.fromkeys((port.guest_port, port.protocol) for port in record.ports)
    return tuple(
        PublishedPort(inner_address, FIRST_INNER_PORT + index, guest_port, protocol)
        for index, (guest_port, protocol) in enumerate(guest_ports)
    )


def make_url(record: VmRecord, manifest: Manifest) -> str | None:
    """The workload's whole address as the host reaches it, or None where it has no port or no network."""
    workload = manifest.workload
    if record.address is None or workload.port is None:
        return None
    port: int | None = workload.port
    if record.definition.network == "user":
        own = (
            (p, PublishedPort(record.address, p.host_port, workload.port, p.protocol)) for p in record.ports
        )
        port = next(
            (p.host_port for p, here in own if p.guest_port == workload.port and p.covers(here)), None
        )
    if port is None:
        return None
    scheme = "http" if workload.type == "http" else "tcp"
    return f"{scheme}://{record.address}" + ("" if (scheme, port) == ("http", 80) else f":{port}")
