# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

import pytest

from support.balanced import balance, connect, find_free_port, start_guest
from volant.errors import Conflict
from volant.volantd.network import balancer as module
from volant.volantd.network.balancer import Backend, Balancer
from volant.volantd.network.types import PublishedPort


async def ask(port: PublishedPort) -> str:
    reader, writer = await connect(port)
    writer.write(b"who\n")
    name = (await asyncio.wait_for(reader.readline(), 20)).decode().strip()
    writer.close()
    return name


async def test_connections_go_to_all_that_are_ready_and_to_no_other() -> None:
    async with start_guest("a") as a, start_guest("b") as b, balance(a, b) as (balancer, port):
        assert Counter([await ask(port) for _ in range(10)]) == {"a": 5, "b": 5}
        balancer.set_backends({port: [b]})
        assert {await ask(port) for _ in range(4)} == {"b"}


async def test_the_one_with_the_fewest_connections_is_next() -> None:
    async with start_guest("a") as a, start_guest("b") as b, balance(a) as (balancer, port):
        held = [await connect(port) for _ in range(3)]
        for reader, writer in held:
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
        balancer.set_backends({port: [a, b]})
        assert [await ask(port) for _ in range(3)] == ["b", "b", "b"]
        assert balancer.count_connections("a") == 3
        for _, writer in held:
            writer.close()


async def test_one_that_takes_no_connection_is_passed_over_unnoticed() -> None:
    gone = Backend("gone", ("127.0.0.1", find_free_port()))
    async with start_guest("a") as a, balance(gone, a) as (_, port):
        assert {await ask(port) for _ in range(6)} == {"a"}


async def test_one_that_ends_all_connections_without_a_word_does_not_get_all_that_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHUNNED_SECONDS", 3600.0)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with start_guest("mute", hang_up) as mute, start_guest("a") as a, balance(a) as (balancer, port):
        held = await connect(port)
        held[1].write(b"who\n")
        assert await held[0].readline() == b"a\n"
        balancer.set_backends({port: [mute, a]})
        turned_away = await connect(port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(turned_away[0].read(), 20) == b""
        turned_away[1].close()
        async with asyncio.timeout(20):
            while balancer.count_connections("mute"):  # noqa: ASYNC110  # a number
                await asyncio.sleep(0.01)
        assert [await ask(port) for _ in range(3)] == ["a", "a", "a"]
        held[1].close()


async def test_who_comes_while_none_is_ready_waits_for_one() -> None:
    async with start_guest("a") as a, balance() as (balancer, port):
        asking = asyncio.ensure_future(ask(port))
        done, _ = await asyncio.wait({asking}, timeout=0.2)
        assert not done
        balancer.set_backends({port: [a]})
        assert await asking == "a"


async def test_who_waits_in_vain_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)
    async with balance() as (_, port):
        reader, writer = await connect(port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


async def test_a_vm_that_goes_finishes_what_it_is_asked_and_loses_nobody() -> None:
    """Requests that wait for their answer get it; connections without one are closed; then nothing is left."""
    asked, gate = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"slow\n":
                asked.set()
                await gate.wait()
            writer.write(b"done\n")
        writer.close()

    async with start_guest("a", serve) as a, start_guest("b") as b, balance(a) as (balancer, port):
        idle, busy = await connect(port), await connect(port)
        idle[1].write(b"quick\n")
        assert await idle[0].readline() == b"done\n"
        busy[1].write(b"slow\n")
        await asked.wait()
        balancer.set_backends({port: [b]})
        draining = asyncio.ensure_future(balancer.drain("a", 30))
        assert await asyncio.wait_for(idle[0].read(), 20) == b"", "nobody waited for an answer on it"
        assert not draining.done()
        assert await ask(port) == "b"
        gate.set()
        assert await busy[0].readline() == b"done\n"
        await asyncio.wait_for(draining, 20)
        assert balancer.count_connections("a") == 0
        for _, writer in (idle, busy):
            writer.close()


async def test_an_answer_that_comes_slowly_is_not_cut_in_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(module, "DRAIN_LOOK_SECONDS", 0.005)
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await asyncio.sleep(1)
        writer.write(b"head\n")
        await gate.wait()
        writer.write(b"body\n")
        await reader.read()
        writer.close()

    async with start_guest("a", serve) as a, balance(a) as (balancer, port):
        reader, writer = await connect(port)
        writer.write(b"get\n")
        assert await asyncio.wait_for(reader.readline(), 20) == b"head\n"
        balancer.set_backends({port: []})
        draining = asyncio.ensure_future(balancer.drain("a", 30))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not draining.done()
        gate.set()
        assert await asyncio.wait_for(reader.readline(), 20) == b"body\n"
        await asyncio.wait_for(draining, 20)
        writer.close()


async def test_draining_ends_with_its_time() -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await reader.read()
        writer.close()

    async with start_guest("a", serve) as a, balance(a) as (balancer, port):
        reader, writer = await connect(port)
        writer.write(b"never answered\n")
        await asked.wait()
        balancer.set_backends({port: []})
        await asyncio.wait_for(balancer.drain("a", 0.2), 20)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_halves_close_apart_and_much_passes_slow_readers() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async with start_guest("a", shout) as a, balance(a) as (_, port):
        reader, writer = await connect(port)
        writer.write(b"x" * 3_000_000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 30) == b"X" * 3_000_000
        writer.close()


async def test_datagrams_go_to_one_that_is_ready_and_on_to_another_when_it_goes() -> None:
    class Echo(asyncio.DatagramProtocol):
        def __init__(self, name: bytes) -> None:
            self.name = name

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
            self.transport.sendto(self.name, peer)  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    port = PublishedPort("127.0.0.1", find_free_port(), 53, "udp")
    backends = {}
    for name in ("a", "b"):
        transport, _ = await loop.create_datagram_endpoint(
            lambda name=name: Echo(name.encode()),
            local_addr=("127.0.0.1", 0),
        )
        backends[name] = (transport, Backend(name, transport.get_extra_info("sockname")))
    balancer = Balancer([port])
    balancer.set_backends({port: [backends["a"][1]]})
    await balancer.start()
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((port.host_ip, port.host_port))
        for name in ("a", "b"):
            balancer.set_backends({port: [backends[name][1]]})
            client.send(b"who")
            assert await asyncio.wait_for(loop.sock_recv(client, 10), 20) == name.encode()
    balancer.close()
    for transport, _ in backends.values():
        transport.close()


async def test_a_port_in_use_is_told_and_nothing_stays_open() -> None:
    async with balance() as (_, port):
        free = PublishedPort("127.0.0.1", find_free_port(), 81)
        with pytest.raises(Conflict, match="the port is in use"):
            await Balancer([free, port]).start()
        with pytest.raises(OSError):
            await connect(free)
