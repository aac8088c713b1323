# SPDX-License-Identifier: Apache-2.0
"""Published ports while daemons come and go: the carrier is a process, guests are servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.balanced import Connection, connect, find_free_port, start_guest
from volant.errors import Conflict, InvalidInput
from volant.volantd.network.balancer import Backend
from volant.volantd.network.carrier.carrier import SOCKET_NAME, Carrier
from volant.volantd.network.types import PublishedPort

PATIENCE_SECONDS = 120.0


@asynccontextmanager
async def work(folder: Path) -> AsyncIterator[Carrier]:
    """A daemon's life, for the carrier."""
    carrier = Carrier(folder, folder / "ports.log", folder / "net.sock")
    try:
        yield carrier
    finally:
        await carrier.close()


@pytest.fixture
async def folder(short_path: Path) -> AsyncIterator[Path]:
    yield short_path
    async with work(short_path) as carrier:
        await carrier.keep("vm", [])
        await carrier.keep("deployment", [])
    (short_path / SOCKET_NAME).unlink(missing_ok=True)


async def say(connection: Connection, line: bytes = b"who\n") -> str:
    connection[1].write(line)
    return (await asyncio.wait_for(connection[0].readline(), PATIENCE_SECONDS)).decode().strip()


async def ask(port: PublishedPort) -> str:
    connection = await connect(port)
    answer = await say(connection)
    connection[1].close()
    return answer


async def wait_until(holds: Callable[[], object]) -> None:
    """`holds` may block."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.02)


def is_open(port: PublishedPort) -> bool:
    try:
        socket.create_connection((port.host_ip, port.host_port), timeout=PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def make_port() -> PublishedPort:
    return PublishedPort("127.0.0.1", find_free_port(), 80)


async def test_connections_go_on_and_new_ones_are_taken_without_a_daemon(folder: Path) -> None:
    port = make_port()
    async with start_guest("a") as a:
        async with work(folder) as carrier:
            await carrier.hold("vm/a", [port], [a.address], is_inside=False)
            held = await connect(port)
            assert await say(held) == "a"
        assert [await say(held), await ask(port)] == ["a", "a"]
        async with work(folder) as carrier:
            # The next one says it all again, which changes nothing.
            await carrier.keep("vm", ["vm/a"])
            await carrier.hold("vm/a", [port], [a.address], is_inside=False)
            assert [await say(held), await ask(port)] == ["a", "a"]
            await carrier.keep("deployment", [])
            assert await ask(port) == "a"
            # What has ended meanwhile is let go of.
            await carrier.keep("vm", ["vm/b"])
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(held[0].read(), PATIENCE_SECONDS) == b""
            assert not is_open(port)
            held[1].close()


async def test_one_that_is_killed_is_followed_by_another(folder: Path) -> None:
    port = make_port()
    async with start_guest("a") as a, work(folder) as carrier:
        await carrier.hold("vm/a", [port], [a.address], is_inside=False)
        killed = carrier._children[0]
        os.kill(killed, signal.SIGKILL)
        await wait_until(lambda: carrier._children != [killed])
        await wait_until(lambda: is_open(port))
        assert await ask(port) == "a"


async def test_a_port_in_use_and_an_address_of_nobodys_are_told(folder: Path) -> None:
    free = make_port()
    async with start_guest("a") as a, work(folder) as carrier:
        taken = PublishedPort(*a.address, 80)
        with pytest.raises(Conflict, match="the port is in use") as refused:
            await carrier.hold("vm/a", [free, taken], [a.address, a.address], is_inside=False)
        assert "ss -ltunp" in refused.value.resolution
        assert not is_open(free)
        with pytest.raises(InvalidInput):
            nobody = PublishedPort("192.0.2.1", free.host_port, 80)
            await carrier.hold("vm/a", [nobody], [a.address], is_inside=False)


async def test_with_nothing_to_carry_it_ends_and_comes_back(folder: Path) -> None:
    port = make_port()
    async with start_guest("a") as a, work(folder) as carrier:
        await carrier.hold("vm/a", [port], [a.address], is_inside=False)
        await carrier.withdraw("vm/a")
        await wait_until(lambda: not (folder / SOCKET_NAME).exists())
        await carrier.withdraw("vm/a")
        assert not (folder / SOCKET_NAME).exists(), "nobody is started to be told of an end"
        await carrier.hold("vm/a", [port], [a.address], is_inside=False)
        assert await ask(port) == "a"


async def test_without_its_place_it_ends(folder: Path) -> None:
    port = make_port()
    async with start_guest("a") as a, work(folder) as carrier:
        await carrier.hold("vm/a", [port], [a.address], is_inside=False)
    (folder / SOCKET_NAME).unlink()
    await wait_until(lambda: not is_open(port))


async def test_a_deployment_is_balanced_and_drained_there(folder: Path) -> None:
    port = make_port()
    async with start_guest("a") as a, start_guest("b") as b:
        async with work(folder) as carrier:
            await carrier.balance("deployment/d", {port: [a]})
            held = await connect(port)
            assert await say(held) == "a"
            await carrier.balance("deployment/d", {port: [a, b]})
            assert await ask(port) == "b", "which has no connection"
            await carrier.balance("deployment/d", {port: [b]})
            await asyncio.wait_for(carrier.drain("deployment/d", "a", 3600), PATIENCE_SECONDS)
            assert await asyncio.wait_for(held[0].read(), PATIENCE_SECONDS) == b""
            held[1].close()
            await carrier.drain("deployment/d", "nobody", 3600)
        assert await ask(port) == "b"
        async with work(folder) as carrier:
            await carrier.balance("deployment/d", {port: [Backend("b", b.address)]})
            assert await ask(port) == "b"
            await carrier.withdraw("deployment/d")
            assert not is_open(port)


async def test_a_drain_ends_with_who_asked_for_it(folder: Path) -> None:
    port = make_port()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await asyncio.sleep(0.3)
        writer.write(b"late\n")
        await reader.read()
        writer.close()

    async with start_guest("a", never) as a:
        async with work(folder) as carrier:
            await carrier.balance("deployment/d", {port: [a]})
            held = await connect(port)
            held[1].write(b"who\n")
            draining = asyncio.ensure_future(carrier.drain("deployment/d", "a", 3600))
            await carrier.balance("deployment/d", {port: [a]})
        await asyncio.wait_for(draining, PATIENCE_SECONDS)
        assert await asyncio.wait_for(held[0].readline(), PATIENCE_SECONDS) == b"late\n"
        held[1].close()


async def test_what_is_not_understood_is_answered_and_harms_nobody(folder: Path) -> None:
    port = make_port()
    async with start_guest("a") as a, work(folder) as carrier:
        await carrier.hold("vm/a", [port], [a.address], is_inside=False)
        reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET_NAME))
        for line in (b'{"number": 1, "verb": "dance"}\n', b'{"number": 2, "verb": "hold", "key": "vm/b"}\n'):
            writer.write(line)
            answer = json.loads(await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS))
            assert "cannot publish ports" in answer["error"][1]
        writer.write(b"no message\n")
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
        writer.close()
        assert await ask(port) == "a"
