# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from volant.volantd.network.shared.rules import Guest
from volant.volantd.network.shared.visible import find_visible_names

WEB = Guest("vtap1", "m1", "10.127.0.1", ("front",), "web", address6="fd00::1")
FIRST = Guest("vtap2", "m2", "10.127.0.2", ("back", "front"), "api-1", ("api",))
SECOND = Guest("vtap3", "m3", "10.127.0.3", ("front",), "api-2", ("api", "api-2"))
DATABASE = Guest("vtap4", "m4", "10.127.0.4", ("back",), "db")
ALONE = Guest("vtap5", "m5", "10.127.0.5", (), "alone")
GUESTS = [WEB, FIRST, SECOND, DATABASE, ALONE]


def test_a_guest_knows_who_shares_a_network_with_it() -> None:
    assert set(find_visible_names(GUESTS, WEB.address)) == {"web", "api", "api-1", "api-2"}
    assert set(find_visible_names(GUESTS, DATABASE.address)) == {"db", "api", "api-1"}
    assert set(find_visible_names(GUESTS, FIRST.address)) == {"web", "api", "api-1", "api-2", "db"}


def test_one_name_may_be_many_guests() -> None:
    known = find_visible_names(GUESTS, WEB.address)
    assert known["api"] == ["10.127.0.2", "10.127.0.3"]
    assert known["api-2"] == ["10.127.0.3"]
    assert known["web"] == ["10.127.0.1", "fd00::1"]


def test_a_name_of_many_leads_to_those_that_are_well() -> None:
    ill, other_ill = replace(FIRST, is_well=False), replace(SECOND, is_well=False)
    assert find_visible_names([WEB, ill, SECOND], WEB.address)["api"] == ["10.127.0.3"]
    assert find_visible_names([WEB, ill, SECOND], WEB.address)["api-1"] == ["10.127.0.2"], (
        "by its own name it is found"
    )
    assert find_visible_names([WEB, ill, other_ill], WEB.address)["api"] == ["10.127.0.2", "10.127.0.3"]


def test_who_is_alone_knows_itself_and_a_stranger_nobody() -> None:
    assert set(find_visible_names(GUESTS, ALONE.address)) == {"alone"}
    assert find_visible_names(GUESTS, "10.127.9.9") == {}
