# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from volant.contract.egress import parse_egress
from volant.errors import ToolFailed
from volant.volantd.network.bridge import BRIDGE, BRIDGE_MAC, GATEWAY, SUBNET
from volant.volantd.network.egress.guard import MOST_LOGGED, EgressGuard
from volant.volantd.network.egress.rules import HeldGuest
from volant.volantd.network.packet_filter import BridgeNet

NET = BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY)
WEB = HeldGuest("web", "192.168.127.100", parse_egress("a.example"))
OTHER = HeldGuest("web", "192.168.127.100", parse_egress("none"))


class Kernel:
    """nft as the guard sees it: it keeps what it was given."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.chains = ""
        self.table = b'{"nftables": []}'
        self.is_flushed = self.fails = False
        self.guests: list[HeldGuest] = [WEB]
        self.guard = EgressGuard(self.run, lambda: NET, lambda: self.guests)

    def run(self, arguments: Sequence[str], given: bytes) -> bytes:
        if arguments[0] == "-f":
            if self.fails:
                raise ToolFailed("cannot hold")
            self.files.append(given.decode())
            self.is_flushed = False
            return b""
        if arguments[0] == "list":
            return self.chains.encode()
        if self.is_flushed:
            raise ToolFailed("no such table")
        return self.table


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


async def test_what_is_as_it_should_be_is_left_alone(kernel: Kernel) -> None:
    await kernel.guard.apply()
    await kernel.guard.apply()
    assert len(kernel.files) == 1
    kernel.guests = [OTHER]
    await kernel.guard.apply()
    assert len(kernel.files) == 2


async def test_a_host_without_such_vms_gets_no_table(kernel: Kernel) -> None:
    kernel.guests = []
    await kernel.guard.apply()
    assert kernel.files == []


async def test_what_a_daemon_before_has_left_goes(kernel: Kernel) -> None:
    kernel.guests = []
    kernel.chains = (
        f"table inet other {{\n\tchain guest_{'0' * 12} {{\n\t}}\n}}\n"
        f"table inet volant_egress {{\n\tchain guest_{WEB.key} {{\n\t}}\n\tchain forward {{\n\t}}\n}}\n"
        f"table inet third {{\n\tchain guest_{'1' * 12} {{\n\t}}\n}}\n"
    )
    await kernel.guard.apply()
    assert f"delete chain inet volant_egress guest_{WEB.key}" in kernel.files[0]
    assert "0" * 12 not in kernel.files[0] and "1" * 12 not in kernel.files[0]


async def test_a_list_holds_for_names_before_the_rules_are_there(kernel: Kernel) -> None:
    held = kernel.guard.find_names(WEB.address)
    assert held is not None and held.egress == WEB.egress
    assert kernel.guard.find_names("192.168.127.101") is None


async def test_an_address_is_admitted_once_in_a_while(kernel: Kernel) -> None:
    held = kernel.guard.find_names(WEB.address)
    assert held is not None
    assert await held.admit({"192.0.2.1": 60})
    assert await held.admit({"192.0.2.1": 60})
    assert [line.split()[-2] for line in kernel.files[0].splitlines()[-1:]] == ["180s"] and len(
        kernel.files
    ) == 1
    assert await held.admit({"192.0.2.1": 600})
    assert len(kernel.files) == 2
    kernel.fails = True
    assert not await held.admit({"192.0.2.9": 60})


async def test_counts_and_places_are_told_and_logged_within_bounds(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    told: list[str] = []
    kernel.guard.on_counted = told.append
    await kernel.guard.apply()
    places = [
        {"elem": {"val": {"concat": [f"192.0.2.{number}", 6, 443]}, "timeout": 300}} for number in range(30)
    ]
    places.append({"elem": {"val": {"concat": ["192.0.2.1", "udp", 53]}, "timeout": 300}})
    kernel.table = json.dumps(
        {
            "nftables": [
                {"counter": {"name": f"allowed_{WEB.key}", "packets": 3}},
                {"counter": {"name": f"refused_{WEB.key}", "packets": 31}},
                {"set": {"name": f"refused4_{WEB.key}", "elem": places}},
                {"set": {"name": f"refused6_{WEB.key}"}},
            ]
        }
    ).encode()
    await kernel.guard.count()
    held = kernel.guard.find_names(WEB.address)
    assert held is not None
    for number in range(100):
        held.note_refused(f"{number}.tunnel.example")
    counts = kernel.guard.find_counts("web")
    assert counts is not None
    assert (counts.allowed, counts.refused, told[0]) == (3, 131, "web")
    assert counts.recent[-1] == "name 99.tunnel.example" and len(counts.recent) == 20
    lines = [
        record.getMessage() for record in caplog.records if "refused by its egress" in record.getMessage()
    ]
    assert lines[0] == "VM web: refused by its egress: tcp 192.0.2.0:443"
    assert len(lines) == MOST_LOGGED + 1 and "more" in lines[-1]
    kernel.guests = []
    await kernel.guard.apply()
    assert kernel.guard.find_counts("web") is None


async def test_rules_that_somebody_has_flushed_are_made_again(kernel: Kernel) -> None:
    await kernel.guard.apply()
    kernel.is_flushed = True
    await kernel.guard.count()
    assert len(kernel.files) == 2 and not kernel.is_flushed
