# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from support.balanced import Connection, Serve, balance, connect, start_guest
from volant.volantd.network import balancer as module
from volant.volantd.network.balancer import Backend, Balancer
from volant.volantd.network.types import PublishedPort

GET = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
# For whatever cannot fail but by never coming.
PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(module, "DRAIN_LOOK_SECONDS", 0.005)


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body; the body is as long as its head says."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0"
    return head, await asyncio.wait_for(reader.readexactly(int(length)), PATIENCE_SECONDS)


def make_answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def make_uncounted_answer(body: bytes) -> bytes:
    """Its length is for the test alone."""
    return make_answer(body).replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: none\r\n\r\n", 1)


def serve_http(name: str, answer: Callable[[bytes], bytes] = make_answer) -> Serve:
    """Each request is answered by the name and by its own body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError):
            while True:
                _, body = await read_message(reader)
                writer.write(answer(name.encode() + b":" + body))
                await writer.drain()
        writer.close()

    return serve


async def ask(connection: Connection, request: bytes = GET) -> str:
    connection[1].write(request)
    return (await read_message(connection[0]))[1].decode()


@asynccontextmanager
async def three_guests() -> AsyncIterator[list[Backend]]:
    async with (
        start_guest("a", serve_http("a")) as a,
        start_guest("b", serve_http("b")) as b,
        start_guest("c", serve_http("c")) as c,
    ):
        yield [a, b, c]


async def leave(balancer: Balancer, port: PublishedPort, gone: str, *stay: Backend) -> None:
    balancer.set_backends({port: stay})
    await asyncio.wait_for(balancer.drain(gone, 3600), PATIENCE_SECONDS)
    assert balancer.count_connections(gone) == 0


async def wait_until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110  # of another's object
            await asyncio.sleep(0.005)


def has_kept(balancer: Balancer) -> bool:
    return any(splice.has_kept for splice in balancer._places)


@asynccontextmanager
async def leaving(balancer: Balancer, port: PublishedPort, gone: str, *stay: Backend) -> AsyncIterator[None]:
    """While it goes: from here on no next request comes to it."""
    going = asyncio.ensure_future(leave(balancer, port, gone, *stay))
    await wait_until(lambda: gone in balancer._leaving or going.done())
    yield
    await going


async def test_clients_that_ask_without_a_pause_lose_nothing_while_each_vm_goes_in_turn() -> None:
    async with three_guests() as guests, balance(*guests) as (balancer, port):
        stop, answered = asyncio.Event(), list[set[str]]()

        async def ask_on(pause_seconds: float, request: bytes) -> None:
            connection, names = await connect(port), set[str]()
            answered.append(names)
            while not stop.is_set():
                names.add(await ask(connection, request))
                await asyncio.sleep(pause_seconds)
            connection[1].close()

        post = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        clients = [
            asyncio.ensure_future(ask_on(pause, request))
            for pause in (0, 0.002, 0.02)
            for request in (GET, post)
        ]
        await wait_until(lambda: len(answered) == len(clients) and all(answered))
        for gone in guests:
            await leave(balancer, port, gone.id, *(guest for guest in guests if guest is not gone))
        balancer.set_backends({port: guests[:1]})
        for gone in guests[1:]:
            await leave(balancer, port, gone.id, guests[0])
        # On one connection, by several; one that lost a request has ended.
        await wait_until(
            lambda: all(len(names) > 1 for names in answered) or any(client.done() for client in clients)
        )
        stop.set()
        await asyncio.wait_for(asyncio.gather(*clients), PATIENCE_SECONDS)
        assert all(len(names) > 1 for names in answered)


async def test_an_answer_without_a_length_is_over_when_its_client_asks_again() -> None:
    serve = serve_http("a", make_uncounted_answer)
    async with (
        start_guest("a", serve) as a,
        start_guest("b", serve_http("b")) as b,
        balance(a) as (balancer, port),
    ):
        client = await connect(port)
        assert await ask(client) == "a:"
        async with leaving(balancer, port, "a", b):
            assert await ask(client) == "b:"
        client[1].close()


async def test_a_connection_at_rest_goes_on_elsewhere_with_its_next_request() -> None:
    async with three_guests() as (a, b, _), balance(a) as (balancer, port):
        silent, answered = await connect(port), await connect(port)
        assert await ask(answered) == "a:"
        await leave(balancer, port, "a", b)
        assert [await ask(silent), await ask(answered)] == ["b:", "b:"]
        for _, writer in (silent, answered):
            writer.close()


async def test_with_nobody_else_the_next_request_waits_for_who_comes() -> None:
    async with three_guests() as (a, b, _), balance(a) as (balancer, port):
        client = await connect(port)
        assert await ask(client) == "a:"
        await leave(balancer, port, "a")
        asking = asyncio.ensure_future(ask(client))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not asking.done()
        balancer.set_backends({port: [b]})
        assert await asking == "b:"
        client[1].close()


async def test_with_nobody_else_in_time_the_client_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)
    async with three_guests() as (a, *_), balance(a) as (balancer, port):
        client = await connect(port)
        assert await ask(client) == "a:"
        await leave(balancer, port, "a")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(client[0].read(), PATIENCE_SECONDS) == b""
        client[1].close()


async def test_a_request_that_goes_on_after_an_interim_answer_is_not_torn() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(make_answer(b"a:" + await reader.readexactly(4)))
        await reader.read()
        writer.close()

    async with (
        start_guest("a", serve) as a,
        start_guest("b", serve_http("b")) as b,
        balance(a) as (balancer, port),
    ):
        client = await connect(port)
        client[1].write(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert (await read_message(client[0]))[0].startswith(b"HTTP/1.1 100")
        async with leaving(balancer, port, "a", b):
            for _ in range(40):
                await asyncio.sleep(0.005)
            client[1].write(b"body")
            assert (await read_message(client[0]))[1] == b"a:body"
        assert await ask(client) == "b:"
        client[1].close()


async def test_what_switched_to_another_protocol_and_what_is_one_are_not_moved() -> None:
    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).startswith(b"GET"):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        else:
            writer.write(b"+PONG\r\n")
        await reader.read()
        writer.close()

    async with start_guest("a", switch) as a, start_guest("b") as b, balance(a) as (balancer, port):
        web_socket, raw = await connect(port), await connect(port)
        web_socket[1].write(b"GET /chat HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\n\r\n")
        assert (await read_message(web_socket[0]))[0].startswith(b"HTTP/1.1 101")
        raw[1].write(b"PING\r\n")
        assert await asyncio.wait_for(raw[0].readline(), PATIENCE_SECONDS) == b"+PONG\r\n"
        await leave(balancer, port, "a", b)
        for reader, writer in (web_socket, raw):
            assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
            writer.close()
        assert balancer.count_connections("b") == 0


async def test_a_stream_of_events_is_seen_to_end() -> None:
    """Its client waits for the next event, and would wait for ever."""

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await reader.read()
        writer.close()

    async with start_guest("a", tell) as a, start_guest("b") as b, balance(a) as (balancer, port):
        reader, writer = await connect(port)
        writer.write(GET)
        await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), PATIENCE_SECONDS)
        await leave(balancer, port, "a", b)
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
        writer.close()


async def test_a_draining_that_is_called_off_sends_what_was_kept_to_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 3600.0)
    async with start_guest("a", serve_http("a", make_uncounted_answer)) as a, balance(a) as (balancer, port):
        client = await connect(port)
        assert await ask(client) == "a:"
        draining = asyncio.ensure_future(balancer.drain("a", 3600))
        await wait_until(lambda: balancer._leaving)
        asking = asyncio.ensure_future(ask(client))
        await wait_until(lambda: has_kept(balancer))
        draining.cancel()
        assert await asking == "a:"
        client[1].close()


async def test_a_request_that_waits_when_the_time_is_over_goes_on_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 3600.0)
    serve = serve_http("a", make_uncounted_answer)
    async with (
        start_guest("a", serve) as a,
        start_guest("b", serve_http("b")) as b,
        balance(a) as (balancer, port),
    ):
        client = await connect(port)
        assert await ask(client) == "a:"
        balancer.set_backends({port: [b]})
        (splice,) = balancer._places
        module._part(splice, 0.0, is_late=False)
        asking = asyncio.ensure_future(ask(client))
        await wait_until(lambda: splice.has_kept)
        module._part(splice, 0.0, is_late=True)
        assert await asking == "b:"
        client[1].close()


async def test_a_vm_that_ends_before_its_time_takes_no_request_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 3600.0)
    gate = asyncio.Event()

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(make_uncounted_answer(b""))
        await gate.wait()
        writer.close()

    async with (
        start_guest("a", end) as a,
        start_guest("b", serve_http("b")) as b,
        balance(a) as (balancer, port),
    ):
        client = await connect(port)
        assert await ask(client) == ""
        async with leaving(balancer, port, "a", b):
            asking = asyncio.ensure_future(ask(client))
            await wait_until(lambda: has_kept(balancer))
            gate.set()
            assert await asking == "b:"
        client[1].close()


async def test_what_follows_a_kept_request_comes_whole_and_in_its_order() -> None:
    body = bytes(range(256)) * 12_000
    serve = serve_http("a", make_uncounted_answer)
    async with (
        start_guest("a", serve) as a,
        start_guest("b", serve_http("b")) as b,
        balance(a) as (balancer, port),
    ):
        client = await connect(port)
        assert await ask(client) == "a:"
        async with leaving(balancer, port, "a", b):
            client[1].write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            assert (await read_message(client[0]))[1] == b"b:" + body
        client[1].close()


async def test_who_reads_slowly_has_the_whole_answer() -> None:
    body = b"x" * 30_000_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(make_answer(body))
        await reader.read()
        writer.close()

    async with start_guest("a", serve) as a, start_guest("b") as b, balance(a) as (balancer, port):
        reader, writer = await connect(port)
        writer.write(GET)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        async with leaving(balancer, port, "a", b):
            for _ in range(60):
                await asyncio.sleep(0.005)
            assert balancer.count_connections("a") == 1, "much of it is still to be read"
            assert await asyncio.wait_for(reader.readexactly(len(body)), PATIENCE_SECONDS) == body
        writer.close()


async def test_who_waits_for_the_end_of_the_connection_sees_it() -> None:
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(make_answer(b"all"))
        await gate.wait()
        writer.close()

    async with (
        start_guest("a", serve) as a,
        start_guest("b", serve_http("b")) as b,
        balance(a) as (balancer, port),
    ):
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        await read_message(reader)
        await leave(balancer, port, "a", b)
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
        gate.set()
        writer.close()
