# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from volant.volantd.network import bridge_ipv6


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forwards nothing yet, and has a route from an advertisement on eth0."""
    for name, accept_ra in (("all", "1"), ("default", "1"), ("eth0", "1"), ("eth1", "0"), ("wlan0", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "accept_ra").write_text(f"{accept_ra}\n")
        (tmp_path / name / "disable_ipv6").write_text("0\n")
    (tmp_path / "all" / "forwarding").write_text("0\n")
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(bridge_ipv6, "SETTINGS", tmp_path)
    monkeypatch.setattr(bridge_ipv6, "MACHINE_ID", tmp_path / "machine-id")
    return tmp_path


def test_the_prefix_is_the_hosts_own_and_stays(host: Path) -> None:
    prefix = bridge_ipv6.find_prefix()
    assert prefix is not None and prefix == bridge_ipv6.find_prefix()
    assert (prefix.prefixlen, prefix.subnet_of(IPv6Network("fd00::/8"))) == (64, True)
    (host / "machine-id").write_text("another\n")
    assert bridge_ipv6.find_prefix() != prefix
    (host / "machine-id").unlink()
    assert bridge_ipv6.find_prefix() is not None


@pytest.mark.parametrize("name", ["all", "default"])
def test_a_host_that_has_switched_it_off_has_none(host: Path, name: str) -> None:
    (host / name / "disable_ipv6").write_text("1\n")
    assert bridge_ipv6.find_prefix() is None
    assert bridge_ipv6.find_address("192.168.127.100") == ""
    (host / name / "disable_ipv6").unlink()
    assert bridge_ipv6.find_prefix() is None


def test_an_address_is_its_leases() -> None:
    prefix = IPv6Network("fd12:3456:789a:7f::/64")
    assert str(bridge_ipv6.make_address(prefix, "192.168.127.100")) == "fd12:3456:789a:7f::c0a8:7f64"


def test_a_link_local_address_is_what_the_kernel_makes_of_the_card() -> None:
    # RFC 4291, appendix A.
    assert bridge_ipv6.make_link_local("34:56:78:9a:bc:de") == IPv6Address("fe80::3656:78ff:fe9a:bcde")


def test_a_host_that_begins_to_forward_keeps_its_own_routes(host: Path) -> None:
    assert "sysctl -w net.ipv6.conf.eth0.accept_ra=2" in bridge_ipv6.describe_forwarding()
    bridge_ipv6.forward()
    assert (host / "all" / "forwarding").read_text() == "1\n"
    accepts = {path.parent.name: path.read_text().strip() for path in host.glob("*/accept_ra")}
    assert accepts == {"all": "2", "default": "2", "eth0": "2", "eth1": "0", "wlan0": "2"}


def test_one_that_forwards_already_is_left_as_it_is(host: Path) -> None:
    (host / "all" / "forwarding").write_text("1\n")
    bridge_ipv6.forward()
    assert (host / "eth0" / "accept_ra").read_text() == "1\n"
