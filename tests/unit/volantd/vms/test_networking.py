# SPDX-License-Identifier: Apache-2.0
"""What guests in user mode reach, and what people are told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from support.vm_records import make_record
from volant.volantd.hypervisors.base import Nic, StreamNic, TapNic, UserNic
from volant.volantd.network.types import PublishedPort
from volant.volantd.settings import Settings
from volant.volantd.vms import networking


@pytest.mark.parametrize(
    ("setting", "obstacle", "reach"),
    [
        ("closed", None, "outward"),
        ("closed", "passt is not installed", "nowhere"),
        ("open", None, "everything"),
        ("open", "passt is not installed", "everything"),
    ],
)
def test_the_hosts_services_are_reached_only_where_a_setting_says_so(
    setting: str, obstacle: str | None, reach: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networking, "find_outward_obstacle", lambda _version: obstacle)
    folders = {"state_dir": Path("/s"), "runtime_dir": Path("/r")}
    settings = Settings.model_validate({**folders, "host_loopback": setting})
    assert networking.choose_reach(settings, "7.2.0", "open") == reach
    assert networking.choose_reach(settings, "7.2.0", "none") == "nowhere"


@pytest.mark.parametrize(
    "nic", [UserNic("m", (), is_restricted=True), TapNic("m", "vtap0"), StreamNic("m", Path("/net.sock"))]
)
def test_a_stored_nic_is_read_as_what_it_was(nic: Nic) -> None:
    stored = TypeAdapter[Nic](Nic)
    assert stored.validate_json(stored.dump_json(nic)) == nic


def test_a_port_of_the_host_that_is_published_at_two_addresses_is_the_daemons_to_hold() -> None:
    """passt knows a port of the host once, at whatever address."""
    record = replace(make_record(), address="127.127.0.9")
    own = PublishedPort(record.address or "", 80, 80)
    once = replace(record, ports=(own, PublishedPort("127.0.0.1", 8080, 80)))
    assert networking.list_bound_ports(once) == once.ports
    twice = replace(record, ports=(own, PublishedPort("127.0.0.1", 80, 80)))
    (inner,) = networking.list_bound_ports(twice)
    assert (inner.guest_port, inner.host_ip[:8]) == (80, "127.126.")
