# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipaddress import IPv6Network

from volant.contract.egress import parse_egress
from volant.volantd.network.bridge import BRIDGE, BRIDGE_MAC, GATEWAY, SUBNET
from volant.volantd.network.egress.rules import HeldGuest, make_admission, make_rules
from volant.volantd.network.packet_filter import BridgeNet

NET = BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY)
NET6 = BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY, IPv6Network("fd00::/64"))
WEB = HeldGuest("web", "192.168.127.100", parse_egress("a.example,10.0.0.0/8"))
DATABASE = HeldGuest("db", "192.168.127.101", parse_egress("none"))


def test_each_guest_goes_its_own_way() -> None:
    rules = make_rules([WEB, DATABASE], NET)
    elements = next(line for line in rules.splitlines() if "add element" in line and "guests4" in line)
    assert f"192.168.127.100 : goto guest_{WEB.key}" in elements
    assert f"192.168.127.101 : goto guest_{DATABASE.key}" in elements
    assert f"ip daddr {{ 10.0.0.0/8 }} goto accept_{WEB.key}" in rules
    assert f"goto accept_{DATABASE.key}" not in rules


def test_what_a_name_was_answered_with_is_not_for_dns() -> None:
    named = [line for line in make_rules([WEB], NET).splitlines() if "@names4" in line]
    assert len(named) == 2
    assert "th dport != { 53, 853 } goto accept" in named[0] and "icmp" in named[1]


def test_ipv6_goes_with_the_lease() -> None:
    assert "fd00::c0a8:7f64 : goto guest_" in make_rules([WEB], NET6)
    assert "add element inet volant_egress guests6" not in make_rules([WEB], NET)


def test_another_list_is_another_guest() -> None:
    """So that nothing which the old one let through is left, connections neither."""
    other = HeldGuest(WEB.name, WEB.address, parse_egress("b.example"))
    assert other.key != WEB.key and other.mark != WEB.mark
    rules = make_rules([other], NET, [WEB.key])
    assert f"delete set inet volant_egress names4_{WEB.key}" in rules
    assert f"delete counter inet volant_egress refused_{WEB.key}" in rules
    assert f"add set inet volant_egress names4_{WEB.key}" not in rules


def test_an_address_is_let_through_anew_whatever_was_left_of_its_time() -> None:
    assert make_admission(WEB, {"192.0.2.1": 180, "2001:db8::1": 90}).splitlines() == [
        f"{verb} element inet volant_egress names{version}_{WEB.key} {{ {what} }}"
        for version, address, seconds in ((4, "192.0.2.1", 180), (6, "2001:db8::1", 90))
        for verb, what in (("add", address), ("delete", address), ("add", f"{address} timeout {seconds}s"))
    ]
