# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipaddress import IPv6Network

from volant.volantd.network.bridge import BRIDGE, BRIDGE_MAC, GATEWAY, SUBNET
from volant.volantd.network.packet_filter import BridgeNet, make_guest_rules, make_host_rules

NET = BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY)
NET6 = BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY, IPv6Network("fd00::/64"))
MAC, ADDRESS = "52:54:00:00:00:01", "192.168.127.100"


def test_traffic_between_vms_is_not_translated() -> None:
    rules = make_host_rules(NET)
    assert "ip saddr 192.168.127.0/24 ip daddr != 192.168.127.0/24 masquerade" in rules


def test_the_host_is_closed_unless_told() -> None:
    assert "drop" in make_host_rules(NET).split("icmp type echo-request accept")[1].split("}")[0]
    opened = make_host_rules(NET, is_host_open=True)
    assert "drop" not in opened.split("icmp type echo-request accept")[1].split("}")[0]


def test_only_an_isolated_guest_is_kept_from_others() -> None:
    rules = make_guest_rules("vtap0", MAC, ADDRESS, NET)
    assert "ip daddr" not in rules
    isolated = make_guest_rules("vtap0", MAC, ADDRESS, NET, is_isolated=True)
    assert isolated.index("ip daddr 192.168.127.0/24") < isolated.index(f"ip saddr {ADDRESS} accept")


def test_without_ipv6_there_is_none() -> None:
    assert "ip6" not in make_host_rules(NET)
    assert "ip6" not in make_guest_rules("vtap0", MAC, ADDRESS, NET, is_isolated=True)


def test_with_ipv6_a_guest_has_an_address_beside_its_lease() -> None:
    assert "ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade" in make_host_rules(NET6)
    rules = make_guest_rules("vtap0", MAC, ADDRESS, NET6)
    assert "ip6 saddr { fd00::c0a8:7f64, fe80::5054:ff:fe00:1 } accept" in rules
