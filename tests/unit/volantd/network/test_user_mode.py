# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.volantd.network import user_mode
from volant.volantd.network.types import PublishedPort

ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def test_a_default_route_has_neither_destination_nor_mask(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    assert not user_mode.has_default_route(routes)
    routes.write_text(ROUTES + "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
    assert not user_mode.has_default_route(routes)
    routes.write_text(ROUTES + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    assert user_mode.has_default_route(routes)


def test_a_default_route_of_ipv6_is_not_the_kernels_own_that_rejects(tmp_path: Path) -> None:
    routes = tmp_path / "ipv6_route"
    assert not user_mode.has_ipv6_default_route(routes)
    nothing = "0" * 32
    template = f"{{to}} {{length}} {nothing} 00 {nothing} 00000400 00000001 00000000 00000003 {{device}}\n"
    routes.write_text(
        template.format(to="fd" + "0" * 30, length="40", device="eth0")
        + template.format(to=nothing, length="00", device="lo")
    )
    assert not user_mode.has_ipv6_default_route(routes)
    routes.write_text(template.format(to=nothing, length="00", device="eth0"))
    assert user_mode.has_ipv6_default_route(routes)


@pytest.mark.parametrize(
    ("version", "passt", "route", "obstacle"),
    [
        ("7.2.22 (Debian 1:7.2+dfsg-7)", "/usr/bin/passt", True, None),
        ("10.0.0", "/usr/bin/passt", True, None),
        ("6.2.0", "/usr/bin/passt", True, "older than 7.2"),
        ("7.2.0", None, True, "passt is not installed"),
        ("7.2.0", "/usr/bin/passt", False, "no default route"),
    ],
)
def test_what_stands_between_a_guest_and_the_way_out(
    version: str, passt: str | None, route: bool, obstacle: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_mode, "find_tool", lambda _name: passt)
    monkeypatch.setattr(user_mode, "has_default_route", lambda: route)
    found = user_mode.find_outward_obstacle(version)
    assert found is None if obstacle is None else obstacle in str(found)


def test_passt_never_takes_the_gateway_for_the_host() -> None:
    web = PublishedPort(host_ip="127.127.3.4", host_port=80, guest_port=8080)
    names = PublishedPort(host_ip="127.0.0.1", host_port=5353, guest_port=53, protocol="udp")
    arguments = user_mode.make_passt_arguments(7, [web, names])
    assert "--no-map-gw" in arguments
    assert arguments[arguments.index("--fd") + 1] == "7"
    assert arguments[-4:] == ["--tcp-ports", "127.127.3.4/80:8080", "--udp-ports", "127.0.0.1/5353:53"]
