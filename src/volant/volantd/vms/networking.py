# SPDX-License-Identifier: Apache-2.0
"""A VM's place on the network: which address and ports it has, and what that needs while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from pathlib import Path

from volant.contract.manifest import Manifest
from volant.errors import Conflict, InvalidInput
from volant.process import require_tool
from volant.volantd.hypervisors.base import Nic, StreamNic, TapNic, UserNic
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
from volant.volantd.network.forward import PortForwarder
from volant.volantd.network.types import NetworkMode, PortRequest, PublishedPort
from volant.volantd.network.user_mode import Reach, UserNetwork, find_outward_obstacle
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.settings import Settings
from volant.volantd.vms.addresses import choose_address, publish
from volant.volantd.vms.record import VmRecord

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
        return address, [*ports, *publish(publish_requests)]
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


def choose_reach(settings: Settings, qemu_version: str) -> Reach:
    """What guests in user mode reach: the host's own services only where a setting says so."""
    if settings.host_loopback == "open":
        return "everything"
    return "nowhere" if find_outward_obstacle(qemu_version) else "outward"


def find_warnings(record: VmRecord) -> list[str]:
    """What people should know of a VM's network, as it was started."""
    nics = record.spec.nics if record.spec is not None else ()
    if any(isinstance(nic, UserNic) and nic.is_restricted for nic in nics):
        return ["its network leads nowhere but to its published ports: see the line about it in volar doctor"]
    return []


def make_nics(record: VmRecord, reach: Reach, sockets: Path) -> tuple[Nic, ...]:
    match record.definition.network:
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


async def attach(record: VmRecord, reach: Reach, folder: Path, sockets: Path) -> UserNetwork | None:
    """Make what the VM's process needs to be there before it starts; returns what has yet to become ready."""
    if record.definition.network in ON_BRIDGE:
        assert record.address is not None
        isolated = record.definition.isolated
        await asyncio.to_thread(
            make_tap, name_tap(record.id), record.mac, record.address, is_isolated=isolated
        )
    elif record.definition.network == "user" and reach == "outward":
        network = UserNetwork(folder / "network.log")
        network.start(sockets / NETWORK_SOCKET, record.mac, list_bound_ports(record))
        return network
    return None


async def guard(record: VmRecord) -> None:
    """Filter again what an adopted VM sends: somebody may have flushed all rules of the host meanwhile."""
    if record.definition.network in ON_BRIDGE and record.address is not None:
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


async def start_forwarding(
    record: VmRecord, reach: Callable[[], Awaitable[None]] | None
) -> PortForwarder | None:
    """Listen on the published ports of a bridged VM, and of one that sleeps when it is idle: in user mode the
    hypervisor does so otherwise. `reach` wakes it."""
    address = record.address
    if not record.ports or address is None:
        return None
    reach = reach if sleeps_when_idle(record) else None
    if record.definition.network in ON_BRIDGE:
        forwarder = PortForwarder(record.ports, lambda port: (address, port.guest_port), reach)
    elif sleeps_when_idle(record):
        inner = {(port.guest_port, port.protocol): port for port in list_bound_ports(record)}

        def find_target(port: PublishedPort) -> tuple[str, int]:
            found = inner[port.guest_port, port.protocol]
            return found.host_ip, found.host_port

        forwarder = PortForwarder(record.ports, find_target, reach)
    else:
        return None
    await forwarder.start()
    return forwarder


def sleeps_when_idle(record: VmRecord) -> bool:
    return record.definition.suspend_when_idle_seconds > 0


def list_bound_ports(record: VmRecord) -> tuple[PublishedPort, ...]:
    """What the hypervisor binds in user mode: the published ports, or where the daemon holds those itself, a loopback
    address beside the VM's own with a port for each of the guest's."""
    if not sleeps_when_idle(record) or record.address is None:
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
        found = (
            p.host_port for p in record.ports if p.guest_port == workload.port and p.host_ip == record.address
        )
        port = next(found, None)
    if port is None:
        return None
    scheme = "http" if workload.type == "http" else "tcp"
    return f"{scheme}://{record.address}" + ("" if (scheme, port) == ("http", 80) else f":{port}")
