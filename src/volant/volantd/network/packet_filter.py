# SPDX-License-Identifier: Apache-2.0
"""What guests on the bridge may send, and to whom: nftables in tables of our own, beside whatever else filters here.

`table ip volant` holds for all guests: NAT outward, nothing new inward, and of the host itself only DNS, DHCP and ping.
`table netdev volant` has one chain a tap device: a guest sends as itself or not at all. Both say what
is dropped and accept nothing for good, so that other tables (Docker's, firewalld's, a person's) keep their word. All
calls block for a moment.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from volant.process import find_tool, run_tool

TABLE = "volant"


def make_host_rules(bridge: str, subnet: IPv4Network, *, is_host_open: bool = False) -> str:
    """The table for all guests. First declared, then deleted, so that the first time is no error either: nft applies
    the whole file at once.

    VM to VM stays as it is also where bridged frames cross the IP rules (bridge-nf-call-iptables): hence the tests of
    both ends. What another rule has sent on (`dnat`) was meant for an address of the host's.
    """
    last = "accept" if is_host_open else "drop"
    return f"""\
table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} ip daddr != {subnet} masquerade
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{bridge}" jump from_guests
  }}
  chain from_guests {{
    ct state established,related accept
    udp dport {{ 53, 67 }} accept
    tcp dport 53 accept
    icmp type echo-request accept
    {last}
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" oifname != "{bridge}" ct status dnat ct direction original {last}
    oifname "{bridge}" iifname != "{bridge}" ct state != {{ established, related }} drop
  }}
}}
"""


def make_guest_rules(
    tap: str, mac: str, address: str, gateway: IPv4Address, subnet: IPv4Network, *, is_isolated: bool = False
) -> str:
    """One guest's chain: its own MAC and address in Ethernet, ARP and IPv4, no DHCP server of its own, no IPv6.

    An ARP probe (RFC 5227) and a DHCP client's first words have no address yet. `is_isolated`: of its own subnet it
    reaches the gateway alone.
    """
    chain = f"netdev {TABLE} {tap}"
    apart = [
        f"arp daddr ip != {gateway} arp daddr ip {subnet} drop",
        f"ip daddr {subnet} ip daddr != {gateway} drop",
    ]
    rules = [
        f"ether saddr != {mac} drop",
        "ether type 8021q drop",
        *(apart if is_isolated else []),
        f"arp saddr ether {mac} arp saddr ip {{ {address}, 0.0.0.0 }} accept",
        "udp sport 67 drop",
        f"ip saddr {address} accept",
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
    ]
    lines = [
        f"add table netdev {TABLE}",
        f"add chain {chain} {{ type filter hook ingress device {tap} priority filter; policy drop; }}",
        f"flush chain {chain}",
        *(f"add rule {chain} {rule}" for rule in rules),
    ]
    return "\n".join(lines) + "\n"


def install_rules(rules: str, what: str) -> None:
    run_tool(["nft", "-f", "-"], stdin=rules.encode(), what=what)


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
        for family in ("ip", "netdev"):
            # Exit code 1: there is no such table.
            run_tool(["nft", "delete", "table", family, TABLE], accepted_exit_codes=(0, 1))
