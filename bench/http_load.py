# SPDX-License-Identifier: Apache-2.0
"""Requests at a steady rate, whatever becomes of those before: an open loop, as clients are that know nothing of each
other. How long one took counts from the moment when it was to begin.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

Address = tuple[str, int]
PATIENCE_SECONDS = 60.0
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
KEPT_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


@dataclass
class Answers:
    seconds: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def slowest_hundredth_ms(self) -> float:
        return 1000 * statistics.quantiles(self.seconds, n=100)[98]


async def ask(address: Address) -> None:
    """One request on a connection of its own. OSError where it is not answered in full."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(REQUEST)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    check(head, body)


def check(head: bytes, body: bytes) -> None:
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if not head.startswith(b"HTTP/1.1 200") or len(body) != int(lines[b"content-length"]):
        raise ConnectionError(f"no whole answer: {head[:40]!r}")


async def load(addresses: Sequence[Address], rate: float, stop: asyncio.Event, answers: Answers) -> None:
    """Until told to stop, to each address in turn."""
    loop = asyncio.get_running_loop()
    began, running = loop.time(), set[asyncio.Task[None]]()

    async def one(address: Address, at: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await ask(address)
        except (OSError, TimeoutError, KeyError, ValueError) as error:
            answers.lost.append(f"{address[0]}:{address[1]}: {error!r}")
        else:
            answers.seconds.append(loop.time() - at)

    for number in itertools.count():
        at = began + number / rate
        await asyncio.sleep(max(0.0, at - loop.time()))
        if stop.is_set():
            break
        task = loop.create_task(one(addresses[number % len(addresses)], at))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def load_kept(
    address: Address, stop: asyncio.Event, answers: Answers, period_seconds: float = 0.05
) -> None:
    """One client that keeps its connection while the server does, and asks again where it was closed in between. It has
    a request due in each period; those that became due while it waited for an answer follow at once.
    """
    loop = asyncio.get_running_loop()
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    began = loop.time()
    for number in itertools.count():
        at = began + number * period_seconds
        await asyncio.sleep(max(0.0, at - loop.time()))
        if stop.is_set():
            break
        try:
            if connection is None or connection[0].at_eof():
                connection = await asyncio.open_connection(*address)
            reader, writer = connection
            writer.write(KEPT_REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            check(head, await reader.readexactly(int(lines[b"content-length"])))
            if lines.get(b"connection") == b"close":
                writer.close()
                connection = None
        except (OSError, EOFError, KeyError, ValueError) as error:
            answers.lost.append(f"kept: {error!r}")
            connection = None
        else:
            answers.seconds.append(loop.time() - at)
    if connection is not None:
        connection[1].close()


async def measure(addresses: Sequence[Address], rate: float, seconds: float) -> Answers:
    """Each request on a connection of its own."""
    answers, stop = Answers(), asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    await load(addresses, rate, stop, answers)
    return answers


async def measure_kept(addresses: Sequence[Address], rate: float, seconds: float, clients: int) -> Answers:
    """The same rate from so many clients, each with a connection that it keeps."""
    answers, stop = Answers(), asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            await asyncio.sleep(1 / rate)  # not all at the same moments
            group.create_task(load_kept(addresses[number % len(addresses)], stop, answers, clients / rate))
    return answers
