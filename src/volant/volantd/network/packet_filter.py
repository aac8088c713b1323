# SPDX-License-Identifier: Apache-2.0
"""What guests on the bridge may send, and to whom: nftables in tables of our own, beside whatever else filters here.

`table ip volant` and `table ip6 volant` hold for all guests: NAT outward, nothing new inward, and of the host itself
only DNS, DHCP and ping. `table netdev volant` has one chain a tap device: a guest sends as itself or not at all. They
say what is dropped and accept nothing for good, so that other tables (Docker's, firewalld's, a person's) keep their
word. All calls block for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from volant.process import find_tool, require_tool, run_tool
from volant.volantd.network.bridge_ipv6 import make_address, make_link_local

TABLE = "volant"
FAMILIES = ("ip", "ip6", "netdev")


@dataclass(frozen=True, slots=True)
class BridgeNet:
    """The bridge as the rules need it. `prefix`: of IPv6, where this host has it."""

    bridge: str
    mac: str
    subnet: IPv4Network
    gateway: IPv4Address
    prefix: IPv6Network | None = None


def make_host_rules(net: BridgeNet, *, is_host_open: bool = False) -> str:
    """The tables for all guests. First declared, then deleted, so that the first time is no error either: nft applies
    the whole file at once."""
    open_to_guests = ["udp dport { 53, 67 } accept", "tcp dport 53 accept", "icmp type echo-request accept"]
    rules = _make_host_table("ip", net.bridge, net.subnet, open_to_guests, is_host_open=is_host_open)
    if net.prefix is None:
        return rules
    # DNS is asked at the gateway's IPv4 address.
    neighbors = "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept"
    return rules + _make_host_table("ip6", net.bridge, net.prefix, [neighbors], is_host_open=is_host_open)


def _make_host_table(
    family: str,
    bridge: str,
    subnet: IPv4Network | IPv6Network,
    open_to_guests: list[str],
    *,
    is_host_open: bool,
) -> str:
    """VM to VM stays as it is also where bridged frames cross the IP rules (bridge-nf-call-iptables): hence the tests
    of both ends. What another rule has sent on (`dnat`) was meant for an address of the host's."""
    last = "accept" if is_host_open else "drop"
    accepted = "\n    ".join(open_to_guests)
    return f"""\
table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {family} saddr {subnet} {family} daddr != {subnet} masquerade
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{bridge}" jump from_guests
  }}
  chain from_guests {{
    ct state established,related accept
    {accepted}
    {last}
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" oifname != "{bridge}" ct status dnat ct direction original {last}
    oifname "{bridge}" iifname != "{bridge}" ct state != {{ established, related }} drop
  }}
}}
"""


def make_guest_rules(tap: str, mac: str, address: str, net: BridgeNet, *, is_isolated: bool = False) -> str:
    """One guest's chain: its own MAC and addresses in Ethernet, ARP and IP, no DHCP server or router of its own.

    An ARP probe (RFC 5227) and a DHCP client's first words have no address yet. `is_isolated`: of its own subnet it
    reaches the gateway alone.
    """
    chain = f"netdev {TABLE} {tap}"
    rules = list_guest_rules(mac, address, net, is_isolated=is_isolated)
    lines = [
        f"add table netdev {TABLE}",
        f"add chain {chain} {{ type filter hook ingress device {tap} priority filter; policy drop; }}",
        f"flush chain {chain}",
        *(f"add rule {chain} {rule}" for rule in rules),
    ]
    return "\n".join(lines) + "\n"


def list_guest_rules(mac: str, address: str, net: BridgeNet, *, is_isolated: bool = False) -> list[str]:
    """What a guest may send; what none of these accepts is to be dropped."""
    apart = [
        f"arp daddr ip != {net.gateway} arp daddr ip {net.subnet} drop",
        f"ip daddr {net.subnet} ip daddr != {net.gateway} drop",
    ]
    return [
        f"ether saddr != {mac} drop",
        "ether type 8021q drop",
        *(apart if is_isolated else []),
        f"arp saddr ether {mac} arp saddr ip {{ {address}, 0.0.0.0 }} accept",
        "udp sport { 67, 547 } drop",
        f"ip saddr {address} accept",
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        *_make_ipv6_rules(mac, address, net, is_isolated=is_isolated),
    ]


def _make_ipv6_rules(mac: str, address: str, net: BridgeNet, *, is_isolated: bool) -> list[str]:
    """Neighbour discovery (RFC 4861) says whose address is whose, as ARP does, but inside of IPv6: its target lies
    behind eight bytes of ICMPv6. From no address a guest only asks whether its own are free. Discovery in fragments, in
    which a target could hide, is dropped by whoever receives it (RFC 6980)."""
    if net.prefix is None:
        return []
    own = [make_address(net.prefix, address), make_link_local(mac)]
    gateway = [make_address(net.prefix, net.gateway), make_link_local(net.mac)]
    asks, answers, target = "icmpv6 type nd-neighbor-solicit", "icmpv6 type nd-neighbor-advert", "@th,64,128"
    apart = [
        f"ip6 daddr {{ {net.prefix}, fe80::/10 }} ip6 daddr != {_name(gateway)} drop",
        f"{asks} {target} != {_number([*gateway, *own])} drop",
    ]
    return [
        *(apart if is_isolated else []),
        "icmpv6 type { nd-router-advert, nd-redirect } drop",
        f"{answers} {target} != {_number(own)} drop",
        f"ip6 saddr {_name(own)} accept",
        f"ip6 saddr :: {asks} {target} {_number(own)} accept",
    ]


def _name(addresses: list[IPv6Address]) -> str:
    return f"{{ {', '.join(map(str, addresses))} }}"


def _number(addresses: list[IPv6Address]) -> str:
    return f"{{ {', '.join(f'0x{int(address):032x}' for address in addresses)} }}"


def install_rules(rules: str, what: str) -> None:
    run_tool(["nft", "-f", "-"], stdin=rules.encode(), what=what)


def run_nft(arguments: Sequence[str], given: bytes) -> bytes:
    """What nft prints; raises ToolFailed, or ToolMissing where there is none."""
    require_tool("nft", package="nftables")
    return run_tool(["nft", *arguments], stdin=given, what="hold VMs to their egress").stdout.encode()


def remove_guest_rules(tap: str) -> None:
    """Take one guest's chain away; harmless where it is gone (older kernels remove it with its device)."""
    chain = f"netdev {TABLE} {tap}"
    verbs = (
        f"add table netdev {TABLE}",
        f"add chain {chain}",
        f"flush chain {chain}",
        f"delete chain {chain}",
    )
    if find_tool("nft"):
        install_rules("\n".join(verbs) + "\n", f"remove the filter of {tap}")


def remove_rules() -> None:
    """Take all of it away; harmless where it is gone."""
    if find_tool("nft"):
        for family in FAMILIES:
            # Exit code 1: there is no such table.
            run_tool(["nft", "delete", "table", family, TABLE], accepted_exit_codes=(0, 1))
