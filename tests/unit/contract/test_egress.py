# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.contract.egress import Egress, check_egress, parse_egress


def test_open_and_none_stand_alone() -> None:
    assert parse_egress("open").is_open
    assert parse_egress("none") == Egress() and parse_egress("none").is_closed
    for text in ("open,none", "none,10.0.0.0/8", "deb.debian.org,open"):
        with pytest.raises(ValueError, match="stands alone"):
            parse_egress(text)


def test_names_and_networks_are_told_apart() -> None:
    found = parse_egress(
        "Deb.Debian.org, *.example.com.,10.0.0.0/8,10.1.0.0/16,192.0.2.7,2001:db8::/32,fd00::1"
    )
    assert found.names == ("deb.debian.org", "*.example.com")
    assert found.list_networks(4) == ["10.0.0.0/8", "192.0.2.7/32"]
    assert found.list_networks(6) == ["2001:db8::/32", "fd00::1/128"]
    assert not found.is_open and not found.is_closed


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("deb.debian.org", True),
        ("DEB.debian.ORG", True),
        ("x.deb.debian.org", False),
        ("evildeb.debian.org", False),
        ("api.example.com", True),
        ("a.b.example.com", True),
        ("example.com", False),
        (".example.com", False),
        ("notexample.com", False),
    ],
)
def test_a_star_is_all_below_and_not_the_domain_itself(name: str, allowed: bool) -> None:
    assert parse_egress("deb.debian.org,*.example.com").allows_name(name) is allowed


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "a.example,", "localhost", "*", "*.*.example", "a*.example", "http://a.example", "a.example:443",
        "10.0.0.1/8", "10.0.0.0/33", "1.2.3", "a b.example", "::1/200", "x" * 64 + ".example",
        "a.example; drop", "ä.example", ",".join(["a.example"] * 201),
    ],
)  # fmt: skip
def test_anything_else_is_named(text: str) -> None:
    with pytest.raises(ValueError):
        parse_egress(text)


def test_what_is_kept_is_what_was_written_without_its_spaces() -> None:
    assert check_egress("a.example, 10.0.0.0/8") == "a.example,10.0.0.0/8"
