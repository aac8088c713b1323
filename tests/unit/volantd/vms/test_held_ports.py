# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from support.vm_records import make_record
from volant.volantd.vms import held_ports
from volant.volantd.vms.held_ports import HeldPorts


class Forwarder:
    active_at = 7.0

    def __init__(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


async def wake() -> None:
    """Nobody sleeps here."""


async def test_ports_are_held_once_and_let_go_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Forwarder] = []

    async def start(*_: object) -> Forwarder:
        made.append(Forwarder())
        return made[-1]

    monkeypatch.setattr(held_ports, "start_forwarding", start)
    ports = HeldPorts(wake)
    assert ports.active_at == 0.0
    await ports.hold(make_record(), None)
    assert ports.active_at == 7.0
    # One that does not sleep is begun anew with each start; one that does keeps its listeners.
    await ports.hold(make_record(), None)
    assert [forwarder.is_open for forwarder in made] == [False, True]
    await ports.close()
    await ports.close()
    assert not made[-1].is_open
