# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.volantd.network.shared import outward


def test_pasta_forwards_no_port_and_stands_for_no_loopback() -> None:
    arguments = outward.make_arguments(42)
    assert "--no-map-gw" in arguments
    for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        assert arguments[arguments.index(option) + 1] == "none"
    assert arguments[arguments.index("--netns") + 1] == "/proc/42/ns/net"


@pytest.mark.parametrize("has_ipv6", [True, False])
def test_ipv6_leads_out_where_the_hosts_does(has_ipv6: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "has_ipv6_default_route", lambda: has_ipv6)
    arguments = outward.make_arguments(42)
    assert ("--ipv4-only" in arguments) is not has_ipv6
    assert (outward.ADDRESS6 in arguments) is has_ipv6


def test_what_keeps_vms_from_going_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "find_tool", lambda _name: None)
    assert outward.find_obstacle() == "passt is not installed"
    monkeypatch.setattr(outward, "find_tool", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(outward, "has_default_route", lambda: False)
    assert outward.find_obstacle() == "this host has no default route"
    monkeypatch.setattr(outward, "has_default_route", lambda: True)
    assert outward.find_obstacle() is None


def test_a_process_that_is_no_pasta_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1\n")
    assert outward.find_outward(tmp_path / "pid") is None
    assert outward.find_outward(tmp_path / "none") is None
