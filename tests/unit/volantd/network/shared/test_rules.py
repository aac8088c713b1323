# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from volant.volantd.network.packet_filter import BridgeNet
from volant.volantd.network.shared.rules import Guest, make_bridge_rules

NET = BridgeNet("volant0", "02:76:6f:6c:61:6e", IPv4Network("10.126.0.0/15"), IPv4Address("10.126.0.1"))
WEB = Guest("vtapweb", "52:54:00:00:00:01", "10.127.0.1", ("front", "back"))
DATABASE = Guest("vtapdb", "52:54:00:00:00:02", "10.127.0.2", ("back",))
ALONE = Guest("vtapalone", "52:54:00:00:00:03", "10.127.0.3")


def test_who_reaches_whom_is_said_by_network() -> None:
    rules = make_bridge_rules([WEB, DATABASE, ALONE], NET)
    assert "set network_0 { type ifname; elements = { vtapdb, vtapweb }; }" in rules
    assert "set network_1 { type ifname; elements = { vtapweb }; }" in rules
    reach = next(line for line in rules.splitlines() if line.startswith("map reach"))
    assert "vtapdb : jump circle_0" in reach and "vtapweb : jump circle_0_1" in reach
    assert "vtapalone" not in reach


def test_the_table_is_the_same_in_whatever_order_guests_come() -> None:
    turned = Guest(WEB.tap, WEB.mac, WEB.address, ("back", "front"))
    assert make_bridge_rules([WEB, DATABASE], NET) == make_bridge_rules([turned, DATABASE], NET)


def test_a_guest_sends_as_itself_and_nothing_for_the_hosts_loopback() -> None:
    lines = make_bridge_rules([WEB], NET).splitlines()
    chain = lines[lines.index("chain from_vtapweb {") : lines.index("}", lines.index("chain from_vtapweb {"))]
    assert chain[1] == "ip daddr { 127.0.0.0/8, 0.0.0.0/8 } drop"
    assert "ether saddr != 52:54:00:00:00:01 drop" in chain
    assert "ip saddr 10.127.0.1 accept" in chain
    assert chain[-1] == "drop"


def test_nobody_may_speak_where_there_are_no_guests() -> None:
    rules = make_bridge_rules([], NET)
    assert rules.count('iifname "vtap*" drop') == 2
