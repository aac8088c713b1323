# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from volant.volantd.network.bridge import BRIDGE, GATEWAY, SUBNET
from volant.volantd.network.packet_filter import make_guest_rules, make_host_rules

MAC, ADDRESS = "52:54:00:00:00:01", "192.168.127.100"


def test_traffic_between_vms_is_not_translated() -> None:
    rules = make_host_rules(BRIDGE, SUBNET)
    assert "ip saddr 192.168.127.0/24 ip daddr != 192.168.127.0/24 masquerade" in rules


def test_the_host_is_closed_unless_told() -> None:
    assert "drop" in make_host_rules(BRIDGE, SUBNET).split("icmp type echo-request accept")[1].split("}")[0]
    opened = make_host_rules(BRIDGE, SUBNET, is_host_open=True)
    assert "drop" not in opened.split("icmp type echo-request accept")[1].split("}")[0]


def test_only_an_isolated_guest_is_kept_from_others() -> None:
    rules = make_guest_rules("vtap0", MAC, ADDRESS, GATEWAY, SUBNET)
    assert "ip daddr" not in rules
    isolated = make_guest_rules("vtap0", MAC, ADDRESS, GATEWAY, SUBNET, is_isolated=True)
    assert isolated.index("ip daddr 192.168.127.0/24") < isolated.index(f"ip saddr {ADDRESS} accept")
