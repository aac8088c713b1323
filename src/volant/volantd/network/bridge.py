# SPDX-License-Identifier: Apache-2.0
"""The bridge `volant0` of bridged mode: made once a person agreed to it, and each VM's tap device and lease
on it.

Everything here may be called again: what exists already is left as it is, what is gone already is no error.
So the daemon simply repeats `install_bridge` after the host's reboot, and adopted VMs keep their taps. Links
and addresses go by netlink, what may pass is for `packet_filter`. All calls block for a moment: use them from a thread.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from volant.errors import Conflict, NotPermitted, ToolFailed
from volant.process import require_tool
from volant.volantd.network import bridge_ipv6
from volant.volantd.network.host_firewall import leave_firewalls, pass_docker, pass_firewalls
from volant.volantd.network.packet_filter import (
    BridgeNet,
    install_rules,
    make_guest_rules,
    make_host_rules,
    remove_guest_rules,
    remove_rules,
)

if TYPE_CHECKING:
    # Imported where it is used: a daemon whose VMs are all in user mode starts a fifth of a second sooner.
    from pyroute2 import IPRoute

BRIDGE = "volant0"
# Its own, since a bridge without one takes the lowest of its ports', and guests would have to learn the gateway's anew
# whenever a VM comes or goes. Locally administered, and never a VM's (those begin with 52:54).
BRIDGE_MAC = "02:76:6f:6c:61:6e"
SUBNET = ipaddress.IPv4Network("192.168.127.0/24")
GATEWAY = ipaddress.IPv4Address("192.168.127.1")
FIRST_LEASE = ipaddress.IPv4Address("192.168.127.100")
LAST_LEASE = ipaddress.IPv4Address("192.168.127.254")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# linux/if_addr.h: without ports there is nobody to ask whether the address is free.
IFA_F_NODAD = 2


def describe_bridge() -> list[str]:
    """What `install_bridge` does, as commands that a person could type instead."""
    net = find_net()
    return [
        f"ip link add {BRIDGE} address {BRIDGE_MAC} type bridge",
        f"ip address add {GATEWAY}/{SUBNET.prefixlen} dev {BRIDGE}",
        f"ip link set {BRIDGE} up",
        "sysctl -w net.ipv4.ip_forward=1",
        *_describe_ipv6(net.prefix),
        f"nft -f - <<'END'\n{make_host_rules(net)}END",
    ]


def _describe_ipv6(prefix: ipaddress.IPv6Network | None) -> list[str]:
    if prefix is None:
        return []
    address = bridge_ipv6.make_address(prefix, GATEWAY)
    return [
        f"ip address add {address}/{prefix.prefixlen} dev {BRIDGE} nodad",
        *bridge_ipv6.describe_forwarding(),
    ]


def find_net() -> BridgeNet:
    """The bridge's addresses, as they are on this host."""
    return BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY, bridge_ipv6.find_prefix())


def is_bridge_installed() -> bool:
    """Whether this network namespace has the bridge."""
    return Path(f"/sys/class/net/{BRIDGE}/bridge").is_dir()


def install_bridge(*, is_host_open: bool = False) -> None:
    """Make bridge, address, forwarding, NAT and filter. NotPermitted without CAP_NET_ADMIN, Conflict for a taken
    subnet. `is_host_open`: guests reach this host's own services."""
    require_tool("nft", package="nftables")
    net = find_net()
    with _netlink("make the bridge") as netlink:
        _refuse_taken_subnet(netlink)
        index = _find_link(netlink, BRIDGE)
        if index is None:
            netlink.link("add", ifname=BRIDGE, kind="bridge")
            index = _find_link(netlink, BRIDGE)
        with _tolerated(errno.EEXIST):
            netlink.addr(
                "add", index=index, address=str(GATEWAY), prefixlen=SUBNET.prefixlen,
                broadcast=str(SUBNET.broadcast_address),
            )  # fmt: skip
        netlink.link("set", index=index, address=BRIDGE_MAC, state="up")
        if net.prefix is not None:
            address = bridge_ipv6.make_address(net.prefix, GATEWAY)
            with _tolerated(errno.EEXIST):
                netlink.addr(
                    "add", index=index, family=socket.AF_INET6, address=str(address),
                    prefixlen=net.prefix.prefixlen, flags=IFA_F_NODAD,
                )  # fmt: skip
    if FORWARDING.read_text().strip() != "1":
        try:
            FORWARDING.write_text("1\n")
        except OSError as error:
            raise NotPermitted(
                f"cannot let VMs reach other networks: {FORWARDING} is not writable",
                resolution="set net.ipv4.ip_forward=1 on this host",
            ) from error
    if net.prefix is not None:
        bridge_ipv6.forward()
    rules = make_host_rules(net, is_host_open=is_host_open)
    install_rules(rules, "set the packet filter of bridged mode")
    pass_firewalls(BRIDGE)


def remove_bridge() -> None:
    """Take back all that `install_bridge` made, but for forwarding, which others may rely on by now."""
    with _netlink("remove the bridge") as netlink:
        _remove_link(netlink, BRIDGE)
    remove_rules()
    leave_firewalls(BRIDGE)


def name_tap(vm_id: str) -> str:
    """The name of a VM's tap device, the same for as long as the VM lives (an interface name has 15
    bytes)."""
    return "vtap" + hashlib.sha256(vm_id.encode()).hexdigest()[:10]


def make_tap(name: str, mac: str, address: str, *, is_isolated: bool = False) -> None:
    """Make a tap device on the bridge, usable by this process's user, for a guest that is who it says it is. Conflict
    where there is no bridge."""
    with _netlink(f"make the network device {name}") as netlink:
        bridge = _find_link(netlink, BRIDGE)
        if bridge is None:
            raise Conflict(
                f"cannot attach a VM to the bridge: this host has no {BRIDGE}",
                resolution="volar setup network   (or create the VM with --network user)",
            )
        if _find_link(netlink, name) is None:
            netlink.link("add", ifname=name, kind="tuntap", mode="tap", uid=os.geteuid())
        guard_tap(name, mac, address, is_isolated=is_isolated)
        netlink.link("set", index=_find_link(netlink, name), master=bridge, state="up")
    pass_docker(BRIDGE)


def guard_tap(name: str, mac: str, address: str, *, is_isolated: bool = False) -> None:
    """Filter what comes from a guest; may be called again, e.g. where somebody has flushed all rules of the host."""
    rules = make_guest_rules(name, mac, address, find_net(), is_isolated=is_isolated)
    install_rules(rules, f"filter what comes from {name}")


def remove_tap(name: str) -> None:
    """Remove a tap device; harmless where it is gone."""
    with _netlink(f"remove the network device {name}") as netlink:
        _remove_link(netlink, name)
    remove_guest_rules(name)


def list_taps() -> list[str]:
    """Tap devices of ours on this host."""
    return sorted(path.name for path in Path("/sys/class/net").glob("vtap*"))


def list_idle_taps(links: Path = Path("/sys/class/net")) -> list[str]:
    """Tap devices of ours on the bridge to which no process is attached, to be compared with the VMs that should have
    one. Another daemon's VMs are attached to theirs."""
    return sorted(
        path.name for path in links.glob("vtap*") if (path / "master").exists() and not _has_carrier(path)
    )


def _has_carrier(link: Path) -> bool:
    try:
        return (link / "carrier").read_text().strip() == "1"
    except OSError:
        return False  # EINVAL: it is down


def choose_lease(taken: Collection[str]) -> str:
    """The lowest free address for a VM. Conflict when all 155 are taken."""
    for number in range(int(FIRST_LEASE), int(LAST_LEASE) + 1):
        address = str(ipaddress.IPv4Address(number))
        if address not in taken:
            return address
    raise Conflict(
        f"cannot give the VM an address: all from {FIRST_LEASE} to {LAST_LEASE} are taken",
        resolution="delete VMs that are no longer needed, or create it with --network user",
    )


def _find_link(netlink: IPRoute, name: str) -> int | None:
    found = netlink.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _remove_link(netlink: IPRoute, name: str) -> None:
    index = _find_link(netlink, name)
    if index is not None:
        with _tolerated(errno.ENODEV):
            netlink.link("del", index=index)


def _refuse_taken_subnet(netlink: IPRoute) -> None:
    """Another interface inside our subnet would take its traffic."""
    for address in netlink.get_addr(family=2):
        text = address.get_attr("IFA_ADDRESS")
        label = address.get_attr("IFA_LABEL")
        if label != BRIDGE and ipaddress.IPv4Address(text) in SUBNET:
            raise Conflict(
                f"cannot make the bridge: {label} has the address {text} inside {SUBNET}",
                resolution="use user mode, which needs no network of its own: volar vms create --network user",
            )


@contextmanager
def _tolerated(code: int) -> Iterator[None]:
    from pyroute2 import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise


@contextmanager
def _netlink(what: str) -> Iterator[IPRoute]:
    from pyroute2 import IPRoute, NetlinkError

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        if error.code in (errno.EPERM, errno.EACCES):
            raise NotPermitted(
                f"cannot {what}: that needs the right to change this host's network (CAP_NET_ADMIN)",
                resolution="run it as root: sudo volar setup network",
            ) from error
        raise ToolFailed(f"cannot {what}: {os.strerror(error.code)}") from error
