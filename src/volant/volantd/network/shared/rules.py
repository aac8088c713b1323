# SPDX-License-Identifier: Apache-2.0
"""Which frames pass between guests on one bridge: nftables' bridge family, as a pure function of who they are.

Each guest sends as itself (the rules of `packet_filter`, as on the bridge for root), nothing that means the host's own
loopback, and reaches those alone with whom it shares a network. A tap device that is not named here reaches nobody. The
table is replaced as a whole, in one instant, so nothing has to be taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from volant.contract.egress import EVERYTHING, Egress
from volant.volantd.network.bridge_ipv6 import make_address, make_link_local
from volant.volantd.network.packet_filter import TABLE, BridgeNet, list_guest_rules


@dataclass(frozen=True, slots=True)
class Guest:
    """A VM on the bridge. Who is in no network reaches the gateway alone. `address6`: empty where it was told none."""

    tap: str
    mac: str
    address: str
    networks: tuple[str, ...] = ()
    name: str = ""
    aliases: tuple[str, ...] = ()
    address6: str = ""
    leads_out: bool = True
    """Beyond the guests that it reaches, and the gateway's DNS."""
    egress: Egress = EVERYTHING
    """What of it, then."""
    is_well: bool = True
    """Whether its workload may be sent work, as far as anybody knows."""


def make_bridge_rules(guests: Sequence[Guest], net: BridgeNet) -> str:
    """nft's file for the table, whole."""
    numbers = {name: index for index, name in enumerate(sorted({n for g in guests for n in g.networks}))}
    circles = sorted({tuple(sorted(numbers[name] for name in guest.networks)) for guest in guests})
    members: dict[int, list[str]] = {index: [] for index in numbers.values()}
    for guest in guests:
        for name in guest.networks:
            members[numbers[name]].append(guest.tap)
    sent = _make_map("senders", {guest.tap: f"jump from_{guest.tap}" for guest in guests})
    reach = _make_map(
        "reach",
        {
            guest.tap: f"jump {_name_circle(tuple(sorted(numbers[name] for name in guest.networks)))}"
            for guest in guests
            if guest.networks
        },
    )
    lines = [
        f"table bridge {TABLE}",
        f"delete table bridge {TABLE}",
        f"table bridge {TABLE} {{",
        *(_make_set(f"network_{index}", taps) for index, taps in members.items()),
        *(line for guest in guests for line in _make_chain(guest, net)),
        *(line for circle in circles if circle for line in _make_circle(circle)),
        sent,
        reach,
        "chain prerouting {",
        "type filter hook prerouting priority -300; policy accept;",
        "iifname vmap @senders",
        'iifname "vtap*" drop',
        "}",
        "chain forward {",
        "type filter hook forward priority 0; policy accept;",
        "iifname vmap @reach",
        'iifname "vtap*" drop',
        "}",
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _make_chain(guest: Guest, net: BridgeNet) -> list[str]:
    # The gateway's kernel would carry what is meant for another guest, past the rules between guests.
    around = [
        f"ether daddr {net.mac} ip daddr {net.subnet} ip daddr != {net.gateway} drop",
        *(
            [f"ether daddr {net.mac} ip6 daddr {net.prefix} ip6 daddr != {_gateway6(net)} drop"]
            if net.prefix
            else []
        ),
    ]
    return [
        f"chain from_{guest.tap} {{",
        "ip daddr { 127.0.0.0/8, 0.0.0.0/8 } drop",
        "ip6 daddr { ::1, ::, ::ffff:0:0/96 } drop",
        *around,
        *([] if guest.leads_out else _make_inner(net)),
        *list_guest_rules(guest.mac, guest.address, net),
        "drop",
        "}",
    ]


def _make_inner(net: BridgeNet) -> list[str]:
    """Nothing for beyond: of the gateway its own addresses are left."""
    own6 = f"{{ {_gateway6(net)}, {make_link_local(net.mac)} }}" if net.prefix else "::"
    return [
        f"ether daddr {net.mac} ip daddr != {net.gateway} drop",
        f"ether daddr {net.mac} ip6 daddr != {own6} drop",
    ]


def _gateway6(net: BridgeNet) -> str:
    assert net.prefix is not None
    return str(make_address(net.prefix, net.gateway))


def _make_circle(circle: tuple[int, ...]) -> list[str]:
    """Where a member of exactly these networks reaches."""
    accepted = [f"oifname @network_{index} accept" for index in circle]
    return [f"chain {_name_circle(circle)} {{", *accepted, "}"]


def _name_circle(circle: tuple[int, ...]) -> str:
    return "circle_" + "_".join(map(str, circle))


def _make_set(name: str, taps: Sequence[str]) -> str:
    elements = f" elements = {{ {', '.join(sorted(taps))} }};" if taps else ""
    return f"set {name} {{ type ifname;{elements} }}"


def _make_map(name: str, verdicts: dict[str, str]) -> str:
    pairs = ", ".join(f"{tap} : {verdict}" for tap, verdict in sorted(verdicts.items()))
    elements = f" elements = {{ {pairs} }};" if pairs else ""
    return f"map {name} {{ type ifname : verdict;{elements} }}"
