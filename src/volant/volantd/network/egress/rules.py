# SPDX-License-Identifier: Apache-2.0
"""What leaves the bridge, held to each guest's list: nftables in a table of its own, as a pure function of the guests.

Unlike the rules between guests it is never replaced as a whole: addresses that names were answered with, and counts,
stay while other guests come and go. All that belongs to a guest and its list has one key in its name. Guests are
known by their addresses, which the rules at their taps hold them to.

What was let through once goes on for as long as the connection does, also where a name's addresses change: a mark at
the connection says by which list, so that it ends with another one.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from volant.contract.egress import Egress
from volant.volantd.network.bridge_ipv6 import make_address
from volant.volantd.network.packet_filter import BridgeNet

TABLE = "inet volant_egress"
MOST_NAMED_ADDRESSES = 8192
# Told of each guest: so many places that it was refused, each once in this time.
MOST_REFUSED, REFUSED_SECONDS = 64, 300
# DNS, in the clear and by TLS: what a name was answered with is for what the name is for.
NAME_PORTS = "{ 53, 853 }"
KINDS = (
    *(("chain", kind) for kind in ("guest", "accept", "back")),
    *(("set", kind) for kind in ("names4", "names6", "refused4", "refused6")),
    *(("counter", kind) for kind in ("allowed", "refused")),
)


@dataclass(frozen=True, slots=True)
class HeldGuest:
    """A guest that is held to a list: `name` is the VM's, `address` what it sends from."""

    name: str
    address: str
    egress: Egress

    @property
    def key(self) -> str:
        """Of this guest with this list: letters and digits."""
        text = repr((self.name, self.address, self.egress))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def mark(self) -> str:
        return f"0x{int(self.key[:8], 16) | 1:08x}"


def make_rules(guests: Sequence[HeldGuest], net: BridgeNet, stale: Collection[str] = ()) -> str:
    """nft's file. Harmless where it was applied before. `stale`: keys of which nothing is to be left."""
    lines = [f"add table {TABLE}"]
    for guest in guests:
        lines += _make_guest(guest)
    lines += _make_maps(guests, net)
    lines += _make_hooks(net)
    for key in stale:
        lines += [f"flush chain {TABLE} {kind}_{key}" for what, kind in KINDS if what == "chain"]
        lines += [f"delete {what} {TABLE} {kind}_{key}" for what, kind in KINDS]
    return "\n".join(lines) + "\n"


def _make_guest(guest: HeldGuest) -> list[str]:
    key = guest.key
    lines = [
        *(
            f"add set {TABLE} names{version}_{key} {{ type ipv{version}_addr; flags timeout;"
            f" size {MOST_NAMED_ADDRESSES}; }}"
            for version in (4, 6)
        ),
        *(
            f"add set {TABLE} refused{version}_{key} {{ type ipv{version}_addr . inet_proto . inet_service;"
            f" flags dynamic,timeout; timeout {REFUSED_SECONDS}s; size {MOST_REFUSED}; }}"
            for version in (4, 6)
        ),
        f"add counter {TABLE} allowed_{key}",
        f"add counter {TABLE} refused_{key}",
    ]
    accept = [f"ct state new ct mark set {guest.mark} counter name allowed_{key}", "accept"]
    back = [f"ct mark {guest.mark} accept", "drop"]
    return [
        *lines,
        *_make_chain(f"accept_{key}", accept),
        *_make_chain(f"back_{key}", back),
        *_make_chain(f"guest_{key}", _list_guest_rules(guest)),
    ]


def _list_guest_rules(guest: HeldGuest) -> list[str]:
    key = guest.key
    rules = [
        f"ct state established ct mark {guest.mark} accept",
        # Errors about its connections; others that a helper of the kernel's would expect are asked for themselves.
        f"meta l4proto {{ icmp, icmpv6 }} ct state related ct mark {guest.mark} accept",
    ]
    for version, family in ((4, "ip"), (6, "ip6")):
        if networks := guest.egress.list_networks(version):
            rules.append(f"{family} daddr {{ {', '.join(networks)} }} goto accept_{key}")
        if guest.egress.names:
            named = f"{family} daddr @names{version}_{key}"
            rules += [
                f"{named} meta l4proto {{ tcp, udp }} th dport != {NAME_PORTS} goto accept_{key}",
                f"{named} meta l4proto {{ icmp, icmpv6 }} goto accept_{key}",
            ]
    for version, family in ((4, "ip"), (6, "ip6")):
        place = f"{{ {family} daddr . meta l4proto . th dport }}"
        rules.append(f"meta l4proto {{ tcp, udp }} add @refused{version}_{key} {place}")
    return [
        *rules,
        f"counter name refused_{key}",
        # The kernel sends few ICMP errors in a second, and a client without one waits.
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
    ]


def _make_maps(guests: Sequence[HeldGuest], net: BridgeNet) -> list[str]:
    """Who is whose, by the addresses of both families."""
    lines = []
    for version in (4, 6):
        addresses = {guest.key: _find_address(guest, net, version) for guest in guests}
        for name, kind in (("guests", "guest"), ("back", "back")):
            found = [f"{address} : goto {kind}_{key}" for key, address in addresses.items() if address]
            lines += [
                f"add map {TABLE} {name}{version} {{ type ipv{version}_addr : verdict; }}",
                f"flush map {TABLE} {name}{version}",
                *([f"add element {TABLE} {name}{version} {{ {', '.join(found)} }}"] if found else []),
            ]
    return lines


def _find_address(guest: HeldGuest, net: BridgeNet, version: int) -> str:
    if version == 4:
        return guest.address
    return str(make_address(net.prefix, guest.address)) if net.prefix is not None else ""


def _make_hooks(net: BridgeNet) -> list[str]:
    """Before the bridge's other rules, which have a say of their own. Who is in no map is held by nothing here.

    Of the gateway, names, addresses and ping stay; the other guests are the business of other rules.
    """
    outward = f'iifname "{net.bridge}" oifname != "{net.bridge}"'
    inward = f'iifname != "{net.bridge}" oifname "{net.bridge}"'
    forward = [
        f"{outward} ip saddr vmap @guests4",
        f"{outward} ip6 saddr vmap @guests6",
        f"{inward} ip daddr vmap @back4",
        f"{inward} ip6 daddr vmap @back6",
    ]
    own = [
        f'iifname != "{net.bridge}" accept',
        "ct direction reply accept",
        "meta pkttype != unicast accept",
        f"ip daddr {net.gateway} meta l4proto {{ tcp, udp }} th dport 53 accept",
        f"ip daddr {net.gateway} udp dport 67 accept",
        f"ip daddr {net.gateway} icmp type echo-request accept",
        "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept",
        "ip saddr vmap @guests4",
        "ip6 saddr vmap @guests6",
    ]
    return [
        *_make_chain("forward", forward, "type filter hook forward priority -5; policy accept;"),
        *_make_chain("input", own, "type filter hook input priority -5; policy accept;"),
    ]


def _make_chain(name: str, rules: Sequence[str], hook: str = "") -> list[str]:
    declared = f"add chain {TABLE} {name}" + (f" {{ {hook} }}" if hook else "")
    return [
        declared,
        f"flush chain {TABLE} {name}",
        *(f"add rule {TABLE} {name} {rule}" for rule in rules),
    ]


def make_admission(guest: HeldGuest, seconds: dict[str, int]) -> str:
    """nft's file that lets a guest reach addresses for so long, also where they are let through for less by now."""
    lines = []
    for address, hold in seconds.items():
        version = ipaddress.ip_address(address).version
        place = f"element {TABLE} names{version}_{guest.key}"
        lines += [
            f"add {place} {{ {address} }}",
            f"delete {place} {{ {address} }}",
            f"add {place} {{ {address} timeout {hold}s }}",
        ]
    return "\n".join(lines) + "\n"
