# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from support.balanced import find_free_port
from support.vm_records import make_record
from volant.volantd.network.carrier.carrier import Carrier, Target
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.held_ports import HeldPorts


class NotedCarrier(Carrier):
    """Carries nothing, and tells what of."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Target, ...]] = {}

    async def hold(
        self, key: str, ports: Sequence[PublishedPort], targets: Sequence[Target], *, is_inside: bool
    ) -> None:
        assert not is_inside and len(ports) == len(targets)
        self.held[key] = tuple(targets)

    async def withdraw(self, key: str) -> None:
        self.held.pop(key, None)


def make_holder() -> tuple[NotedCarrier, HeldPorts, list[str]]:
    carrier, woken = NotedCarrier(), list[str]()

    async def wake() -> None:
        woken.append("woken")

    return carrier, HeldPorts(carrier, "1f2e", wake), woken


async def is_open(port: PublishedPort) -> bool:
    try:
        _, writer = await asyncio.open_connection(port.host_ip, port.host_port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_the_carrier_has_the_ports_of_a_vm_until_it_ends_and_not_until_the_daemon_does() -> None:
    carrier, ports, _ = make_holder()
    record = replace(
        make_record(network="bridged"), ports=(PublishedPort("127.0.0.1", 8080, 80),), address="192.168.127.9"
    )
    await ports.hold(record, None)
    assert carrier.held == {"vm/1f2e": (("192.168.127.9", 80),)}
    assert ports.active_at == 0.0
    await ports.release()
    assert carrier.held
    await ports.close()
    assert not carrier.held
    await ports.hold(record, None)
    await ports.hold(make_record(), None)
    assert not carrier.held, "passt listens, or nobody has to"


async def test_a_vm_that_sleeps_is_woken_by_who_connects_to_the_daemon() -> None:
    carrier, ports, woken = make_holder()
    port = PublishedPort("127.0.0.1", find_free_port(), 80)
    awake = replace(make_record(network="bridged"), ports=(port,), address="127.0.0.1")
    sleepy = replace(
        make_record(network="bridged", suspend_when_idle_seconds=60), ports=(port,), address="127.0.0.1"
    )
    await ports.hold(awake, None)
    await ports.hold(sleepy, None)
    assert not carrier.held
    await ports.hold(sleepy, None)
    assert await is_open(port)
    async with asyncio.timeout(60):
        while not woken:  # noqa: ASYNC110  # a list
            await asyncio.sleep(0.01)
    assert ports.active_at > 0.0
    await ports.hold(awake, None)
    assert carrier.held and not await is_open(port)
    await ports.hold(sleepy, None)
    await ports.release()
    assert not await is_open(port)


def test_a_carrier_that_nobody_needs_is_not_there(tmp_path: Path) -> None:
    async def end() -> None:
        carrier = Carrier(tmp_path, tmp_path / "ports.log", tmp_path / "net.sock")
        await carrier.withdraw("vm/1f2e")
        await carrier.keep("vm", [])
        await carrier.close()

    asyncio.run(end())
    assert list(tmp_path.iterdir()) == []
