# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import Conflict
from volant.volantd.network.bridge import choose_lease, name_tap


def test_leases_are_the_lowest_free_ones() -> None:
    assert choose_lease([]) == "192.168.127.100"
    assert choose_lease(["192.168.127.100", "192.168.127.102"]) == "192.168.127.101"


def test_when_all_leases_are_taken_it_says_so() -> None:
    taken = [f"192.168.127.{number}" for number in range(100, 254)]
    assert choose_lease(taken) == "192.168.127.254"
    with pytest.raises(Conflict, match=r"192\.168\.127\.100 to 192\.168\.127\.254 are taken"):
        choose_lease([*taken, "192.168.127.254"])


def test_a_tap_name_is_stable_short_and_a_vms_own() -> None:
    assert name_tap("a" * 40) == name_tap("a" * 40)
    assert name_tap("a") != name_tap("b")
    assert len(name_tap("x")) <= 15
