# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest

from volant.volantd.network.shared import network


def test_each_loopback_address_has_one_of_its_own_inside() -> None:
    assert network.find_guest_address("127.127.0.1") == "10.127.0.1"
    assert network.find_guest_address("127.127.255.254") == "10.127.255.254"
    for address in ("127.127.0.1", "127.127.255.254"):
        assert ipaddress.ip_address(network.find_guest_address(address)) in network.SUBNET
    assert network.GATEWAY in network.SUBNET and network.GATEWAY < network.GUESTS


def test_a_closed_tun_device_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "TUN", tmp_path / "tun")
    missing = network.find_obstacle()
    assert missing is not None and "there is no" in missing.fact
    (tmp_path / "tun").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    closed = network.find_obstacle()
    assert closed is not None and "closed to this user" in closed.fact and "chmod 0666" in closed.mend
