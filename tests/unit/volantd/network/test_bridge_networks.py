# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import pytest

from volant.errors import ToolFailed
from volant.volantd.network.bridge import BRIDGE, BRIDGE_MAC, GATEWAY, SUBNET
from volant.volantd.network.bridge_networks import NO_RULES, BridgeNetworks
from volant.volantd.network.packet_filter import BridgeNet
from volant.volantd.network.shared.rules import Guest

NET = BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY)
WEB = Guest("vtapweb", "52:54:00:00:00:01", "192.168.127.100", ("front",), "web", leads_out=False)
DATABASE = Guest("vtapdb", "52:54:00:00:00:02", "192.168.127.101", ("back",), "db")


async def test_rules_are_those_of_the_guests_and_none_without_them() -> None:
    guests: list[Guest] = []
    files: list[str] = []

    def run(_arguments: Sequence[str], given: bytes) -> bytes:
        files.append(given.decode())
        return b""

    networks = BridgeNetworks(run, lambda: NET, lambda: guests)
    await networks.apply()
    await networks.apply()
    assert files == [NO_RULES]
    assert networks.find_names("192.168.127.100") is None and networks.leads_out("192.168.127.100")
    guests += [WEB, DATABASE]
    await networks.apply()
    assert len(files) == 2 and "chain from_vtapweb" in files[1]
    assert networks.find_names(WEB.address) == {"web": [WEB.address]}
    assert not networks.leads_out(WEB.address) and networks.leads_out(DATABASE.address)
    # The host itself is nobody's guest.
    assert networks.find_names("192.168.127.1") is None


async def test_a_kernel_without_such_tables_keeps_nobody_apart_and_says_so() -> None:
    guests: list[Guest] = []

    def fail(_arguments: Sequence[str], _given: bytes) -> bytes:
        raise ToolFailed("cannot set rules")

    networks = BridgeNetworks(fail, lambda: NET, lambda: guests)
    await networks.apply()
    guests.append(WEB)
    with pytest.raises(ToolFailed):
        await networks.apply()
